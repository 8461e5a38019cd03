"""How fast `holotype serve` answers, beside what a user would write and what a library gives."""
