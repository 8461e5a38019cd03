"""Which class a drawing belongs to, told from its name alone.

A class is an emoji without skin tone and gender: `woman-mage-dark-skin-tone`, `man-mage-medium-light`
and `person-mage` are all `mage`. Where nothing would remain (`man`, `woman`) the name stays.
"""

import re

_TONE = re.compile(r"(^|-)(medium-)?(light|medium|dark)-skin-tone|-tone[1-5]$")
_BARE_TONE = re.compile(r"-(medium-)?(light|medium|dark)$")  # the two fluent sets leave out "-skin-tone"
_LAMPS = {"horizontal-traffic-light", "police-car-light", "vertical-traffic-light"}

_GENDER = "(man|woman|person|men|women|people)"
_LEADING_GENDER = re.compile(rf"^(two-)?{_GENDER}-(and-{_GENDER}-)?")
_TRAILING_GENDER = re.compile(rf"-{_GENDER}$")
_COUPLE = re.compile(rf"^(couple-with-heart|kiss)(-{_GENDER}){{2}}$")

# What other sets, or older versions of a set, call the same emoji.
_SYNONYMS = {
    "a-button": "a-button-blood-type",
    "ab-button": "ab-button-blood-type",
    "adult": "person",
    "b-button": "b-button-blood-type",
    "ballot-box-with-check": "check-box-with-check",
    "bear-face": "bear",
    "bearded": "beard",
    "black-bird": "blackbird",
    "blond-haired": "blond-hair",
    "blonde-hair": "blond-hair",
    "bride-with-veil": "with-veil",
    "cat-face-with-tears-of-joy": "cat-with-tears-of-joy",
    "cat-face-with-wry-smile": "cat-with-wry-smile",
    "combining-enclosing-keycap": "keycap",
    "crazy-face": "zany-face",
    "crying-cat-face": "crying-cat",
    "curly-haired": "curly-hair",
    "direct-hit": "bullseye",
    "disappointed-but-relieved-face": "sad-but-relieved-face",
    "dizzy-face": "face-with-crossed-out-eyes",
    "enraged-face": "pouting-face",
    "exclamation-mark": "red-exclamation-mark",
    "face-savouring-delicious-food": "face-savoring-food",
    "face-with-cold-sweat": "downcast-face-with-sweat",
    "face-with-open-mouth-and-cold-sweat": "anxious-face-with-sweat",
    "face-with-stuck-out-tongue": "face-with-tongue",
    "face-with-stuck-out-tongue-and-closed-eyes": "squinting-face-with-tongue",
    "face-with-stuck-out-tongue-and-winking-eye": "winking-face-with-tongue",
    "face-with-symbols-over-mouth": "face-with-symbols-on-mouth",
    "first-quarter-moon-with-face": "first-quarter-moon-face",
    "flag-cocos-islands": "flag-cocos-keeling-islands",
    "flag-cte-divoire": "flag-cote-divoire",
    "flag-curaao": "flag-curacao",
    "flag-land-islands": "flag-aland-islands",
    "flag-macau-sar-china": "flag-macao-sar-china",
    "flag-macedonia": "flag-north-macedonia",
    "flag-myanmar": "flag-myanmar-burma",
    "flag-runion": "flag-reunion",
    "flag-so-tom-prncipe": "flag-sao-tome-and-principe",
    "flag-st-barthlemy": "flag-st-barthelemy",
    "flag-swaziland": "flag-eswatini",
    "flag-turkey": "flag-turkiye",
    "frog-face": "frog",
    "full-moon-with-face": "full-moon-face",
    "grinning-cat-face": "grinning-cat",
    "grinning-cat-face-with-smiling-eyes": "grinning-cat-with-smiling-eyes",
    "hamster-face": "hamster",
    "heavy-check-mark": "check-mark",
    "heavy-division-sign": "divide",
    "heavy-heart-exclamation": "heart-exclamation",
    "heavy-large-circle": "hollow-red-circle",
    "heavy-minus-sign": "minus",
    "heavy-multiplication-x": "multiply",
    "heavy-plus-sign": "plus",
    "hugging-face": "smiling-face-with-open-hands",
    "in-business-suit-levitating": "in-suit-levitating",
    "keycap-hash": "keycap-pound",
    "keycap-hashtag": "keycap-pound",
    "kissing-cat-face": "kissing-cat",
    "knocked-out-face": "face-with-crossed-out-eyes",
    "laptop-computer": "laptop",
    "last-quarter-moon-with-face": "last-quarter-moon-face",
    "left-pointing-magnifying-glass": "magnifying-glass-tilted-left",
    "lion-face": "lion",
    "mermaid": "merperson",
    "merman": "merperson",
    "merpeople": "merperson",
    "o-button": "o-button-blood-type",
    "old": "older-person",
    "older": "older-person",
    "older-adult": "older-person",
    "on-exclamation-arrow": "on-arrow",
    "panda-face": "panda",
    "phoenix-bird": "phoenix",
    "piata": "pinata",
    "pistol": "water-pistol",
    "pouting-cat-face": "pouting-cat",
    "question-mark": "red-question-mark",
    "red-haired": "red-hair",
    "red-triangle": "red-triangle-pointed-up",
    "right-pointing-magnifying-glass": "magnifying-glass-tilted-right",
    "robot-face": "robot",
    "smiling-cat-face-with-heart-eyes": "smiling-cat-with-heart-eyes",
    "smiling-face-with-open-mouth": "grinning-face-with-big-eyes",
    "smiling-face-with-open-mouth-and-closed-eyes": "grinning-squinting-face",
    "smiling-face-with-open-mouth-and-cold-sweat": "grinning-face-with-sweat",
    "smiling-face-with-open-mouth-and-smiling-eyes": "grinning-face-with-smiling-eyes",
    "unicorn-face": "unicorn",
    "up-exclamation-button": "up-button",
    "up-text-button": "up-button",
    "weary-cat-face": "weary-cat",
    "white-haired": "white-hair",
    "white-heavy-check-mark": "check-mark-button",
    "with-chinese-cap": "with-skullcap",
}


def class_of(name: str) -> str:
    """Return the class of the drawing called `name` (an iconify name: lower case, words joined by "-")."""
    name = _without_tone(name)
    name = re.sub(r"(?<=[a-z])2$", "", name)  # openmoji and emojione-v1 number their second drawings
    if name.startswith("flag-"):
        name = _flag(name)
    elif name.startswith("family-"):
        name = re.sub(r"boy|girl", "child", re.sub(r"woman|man", "adult", name))
    else:
        name = _without_gender(name)
    return _SYNONYMS.get(name, name)


def _without_tone(name: str) -> str:
    name = _TONE.sub("", name) or "skin-tone"
    return name if name in _LAMPS else _BARE_TONE.sub("", name)


def _without_gender(name: str) -> str:
    name = _COUPLE.sub(r"\1", name)
    name = _LEADING_GENDER.sub("", name)
    return _TRAILING_GENDER.sub("", name)


def _flag(name: str) -> str:
    name = re.sub(r"^flag-for-(flag-)?", "flag-", name)
    return re.sub(r"^flag-(.+-flags?)$", r"\1", name)
