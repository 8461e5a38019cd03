"""The tables of the log of answers, and what is asked of them.

    record    every answer and every undo, as it came
    drawn     images that were asked about as part of the random audit of a class; and, under a name that no image has
              (`GOAL`), what was to be promised of a class
    log       which log it is, its schema, and a digest of what its tables were when they were made
    answered  the records, each with the classes that its image was drawn for: once drawn, always audited
    valid     those that were not undone

The first schema had no digest and no table of what was drawn, the second no chain (`chain`).
"""

APPLICATION = 0x486F6C6F  # "Holo"
SCHEMA = 3
_TABLE = """CREATE TABLE record (
        number INTEGER PRIMARY KEY CHECK (number > 0),
        act TEXT NOT NULL, id TEXT, class TEXT,
        answer TEXT NOT NULL CHECK (answer IN ('yes', 'no', 'unsure', 'exemplar', 'withdrawn', 'undo')),
        "when" TEXT NOT NULL, who TEXT NOT NULL, audit INTEGER NOT NULL CHECK (audit IN (0, 1)),
        CHECK ((answer = 'undo') = (id IS NULL) AND (id IS NULL) = (class IS NULL))
    )"""
_ADDED = "RAISE(ABORT, 'answers are only added')"
_TRIGGERS = [
    f"CREATE TRIGGER no_{what.lower()}{end} BEFORE {what} ON {table} BEGIN SELECT {_ADDED}; END"
    for table, end in (("record", ""), ("drawn", "_drawn"))
    for what in ("UPDATE", "DELETE")
]
# INSERT OR REPLACE deletes a row without asking the triggers above
_NO_REPLACE = f"""CREATE TRIGGER no_replace BEFORE INSERT ON record
    WHEN EXISTS (SELECT 1 FROM record WHERE number = NEW.number) BEGIN SELECT {_ADDED}; END"""
CREATION = [_TABLE, "CREATE INDEX record_act ON record (act)", _NO_REPLACE, *_TRIGGERS[:2]]
_VIEWS = [
    """CREATE VIEW answered AS
        SELECT number, act, id, class, answer, "when", who, digest, answer IN ('exemplar', 'withdrawn') AS prototype,
        (SELECT json_group_array(drawn.class) FROM drawn WHERE drawn.id = record.id) AS drawn FROM record""",
    """CREATE VIEW valid AS SELECT * FROM answered
        WHERE answer != 'undo' AND act NOT IN (SELECT act FROM record WHERE answer = 'undo')""",
]
# what is done to a file of a schema to make it one of the next
UPGRADES = {
    1: [
        "DROP VIEW IF EXISTS standing",
        "ALTER TABLE record ADD COLUMN digest TEXT NOT NULL DEFAULT ''",
        "CREATE TABLE drawn (id TEXT NOT NULL, class TEXT NOT NULL, PRIMARY KEY (id, class)) WITHOUT ROWID",
        "INSERT INTO drawn SELECT DISTINCT id, class FROM record WHERE audit = 1",
        *_TRIGGERS[2:],
        *_VIEWS,
    ],
    2: [
        "DROP VIEW valid",
        "DROP VIEW answered",
        "CREATE TABLE log (id TEXT NOT NULL, schema INTEGER NOT NULL, tables TEXT NOT NULL)",
        "ALTER TABLE record ADD COLUMN chain BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE drawn RENAME TO drawn2",
        """CREATE TABLE drawn (number INTEGER PRIMARY KEY CHECK (number > 0), id TEXT NOT NULL, class TEXT NOT NULL,
            chain BLOB NOT NULL DEFAULT x'', UNIQUE (id, class))""",
        "INSERT INTO drawn (id, class) SELECT id, class FROM drawn2",
        "DROP TABLE drawn2",
        "DROP TRIGGER no_update",
    ],
}
# in the end, when what was there has its place in the chain
FINISH = [
    _TRIGGERS[0],
    *_TRIGGERS[2:],
    *_VIEWS,
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {SCHEMA}",
]
# what the tables are, in words that are the same as long as nobody changes them
TABLES = """SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name IN
    ('record', 'drawn', 'log', 'answered', 'valid') ORDER BY name)"""
_COLUMNS = 'number, act, id, class, answer, "when", who, drawn, digest'
HISTORY = f"SELECT {_COLUMNS} FROM answered ORDER BY number"
ACTS = "SELECT act FROM record WHERE act >= ? AND act < ? AND answer != 'undo' GROUP BY act ORDER BY min(number)"
VALID_OF_ACT = f"SELECT {_COLUMNS} FROM valid WHERE act = ? LIMIT 1"
OF_ACT = f"SELECT {_COLUMNS} FROM answered WHERE act = ? AND answer != 'undo' ORDER BY number"
CURRENT = f"""SELECT {_COLUMNS} FROM valid WHERE number IN
    (SELECT max(number) FROM valid GROUP BY id, class, prototype, digest) ORDER BY number"""
PROTOTYPES = CURRENT.replace(" GROUP BY", " WHERE prototype GROUP BY")
NEWEST = "SELECT coalesce(max(number), 0) FROM record"
CHANGED = "SELECT 1 FROM record WHERE number > ? AND answer IN ('exemplar', 'withdrawn', 'undo') LIMIT 1"
DRAWN_SINCE = "SELECT number, id, class FROM drawn WHERE number > ? ORDER BY number"
DRAWN = "SELECT 1 FROM drawn WHERE id = ? AND class = ?"
GOAL = "certify "  # then the digest of a model, that of the images, and the precision: no image is called so
GOALS = "SELECT id FROM drawn WHERE class = ? AND substr(id, 1, length(?)) = ? ORDER BY number"
# when anything was last recorded about an image and a class, or taken back
LATEST = """SELECT id, class, digest, max("when") FROM (
        SELECT id, class, digest, "when" FROM record WHERE answer != 'undo'
        UNION ALL SELECT one.id, one.class, one.digest, undo."when" FROM record AS undo JOIN record AS one
        ON one.act = undo.act AND undo.answer = 'undo' AND one.answer != 'undo'
    ) GROUP BY id, class, digest"""
# records that an index does not lead to: `PRAGMA quick_check` does not look, and `integrity_check` takes long
UNINDEXED = [
    f"""SELECT 1 FROM {table} AS one NOT INDEXED WHERE NOT EXISTS (SELECT 1 FROM {table} AS other INDEXED BY {index}
        WHERE other.number = one.number AND {same}) LIMIT 1"""
    for table, index, same in (
        ("record", "record_act", "other.act = one.act"),
        ("drawn", "sqlite_autoindex_drawn_1", "other.id = one.id AND other.class = one.class"),
    )
]
