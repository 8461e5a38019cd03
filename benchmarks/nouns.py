"""What a picture shows, told by the words of its path: a noun of the table, or nothing."""

import re

# Folders that decide for all that they hold, whatever the names say: the flag of Turkey is no bird.
_FOLDERS = {
    "flags": "flag", "roadsigns": "road sign", "cards": "playing card", "smilies": "smiley", "chess": "chess piece",
    "map_symbols": "", "led": "", "signs_and_symbols": "", "aiga-symbols": "", "computer": "", "patterns": "",
    "actions": "", "jobs": "", "weapons": "",
}  # fmt: skip

_WORDS = {
    "aeroplane": "airplane aeroplane plane jet helicopter planes",
    "arrow": "arrow",
    "ball": "ball football basketball baseball volleyball",
    "bear": "bear panda",
    "bell": "bell",
    "bicycle": "bicycle bike tricycle motorcycle cycle",
    "bird": "bird penguin duck owl eagle parrot rooster chicken hen gull pigeon swan ostrich crow flamingo goose dove",
    "boat": "boat ship sailboat yacht canoe boating",
    "book": "book",
    "bottle": "bottle",
    "bread": "bread baguette croissant toast bagel bun loaf pretzel",
    "bus": "bus",
    "butterfly": "butterfly moth",
    "cake": "cake cupcake pie muffin donut doughnut",
    "candle": "candle",
    "car": "car automobile taxi auto",
    "cat": "cat kitten housecat lion tiger leopard cheetah",
    "chair": "chair sofa couch stool armchair",
    "clock": "clock watch",
    "cloud": "cloud rain snow weather",
    "coin": "coin",
    "cow": "cow bull ox calf bovine buffalo",
    "dinosaur": "dinosaur tyrannosaurus triceratops stegosaurus",
    "dog": "dog puppy",
    "drink": "beverage coffee tea beer wine juice cocktail alcohol mug cup",
    "elephant": "elephant",
    "face": "face mask",
    "fish": "fish shark trout salmon tuna",
    "flower": "flower rose tulip daisy sunflower orchid",
    "frog": "frog toad amphibian",
    "fruit": "fruit apple banana pear peach cherry strawberry grape lemon lime pineapple apricot melon watermelon plum",
    "furniture": "furniture table bed desk bookcase cabinet",
    "guitar": "guitar violin cello banjo harp string ukulele",
    "gun": "gun pistol rifle revolver cannon",
    "hand": "hand fist finger",
    "hat": "hat cap helmet",
    "heart": "heart valentine",
    "horse": "horse pony donkey zebra equine",
    "house": "house home cottage cabin hut",
    "ice cream": "icecream ice glace",
    "insect": "insect bug ant bee beetle ladybug fly wasp grasshopper cricket dragonfly",
    "jigsaw": "jigsaw",
    "key": "key",
    "knife": "knife fork spoon utensil",
    "lamp": "lamp bulb light lantern",
    "letter": "letters alphabet",
    "meat": "meat steak ham bacon sausage beef hamburger burger hotdog",
    "man": "man boy",
    "monkey": "monkey ape gorilla chimpanzee",
    "monument": "monument castle palace tower cathedral pyramid temple church lighthouse",
    "moon": "moon",
    "mouse": "mouse rat rodent squirrel hamster",
    "mushroom": "mushroom",
    "nut": "nut walnut almond peanut acorn",
    "pen": "pen pencil crayon",
    "pig": "pig boar",
    "planet": "planet earth mars jupiter saturn venus",
    "plant": "plant leaf cactus fern",
    "rabbit": "rabbit bunny hare",
    "sheep": "sheep lamb goat ram",
    "shellfish": "crab lobster shrimp shell shellfish clam",
    "shoe": "shoe boot sandal sneaker",
    "snake": "snake lizard crocodile alligator turtle tortoise reptile",
    "spider": "spider scorpion",
    "stick figure": "stickman stickmen",
    "sun": "sun",
    "telephone": "telephone phone",
    "tool": "tool hammer screwdriver saw wrench pliers drill axe shovel scissors",
    "train": "train locomotive tram",
    "tree": "tree palm pine oak evergreen",
    "truck": "truck lorry tractor",
    "vegetable": "vegetable carrot tomato onion pepper broccoli cabbage corn cucumber potato eggplant radish lettuce",
    "wind instrument": "trumpet flute saxophone clarinet trombone tuba horn brass wind",
    "woman": "woman girl lady",
}
_CLASS = {word: name for name, words in _WORDS.items() for word in words.split()}


def class_of(path: str, others: frozenset[str] = frozenset()) -> str:
    """Return what the picture at `path` shows, or an empty string.

    Its own name comes first, the last word before the others ("dog house" is a house), then its folders from the inner
    to the outer. Words in `others`, such as the author's name, do not count.
    """
    *folders, name = path.rsplit(".", 1)[0].split("/")
    for folder in reversed(folders):
        if folder in _FOLDERS:
            return _FOLDERS[folder]
    for part in (name, *reversed(folders)):
        for word in reversed(re.split("[^a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", part).lower())):
            if word in others:
                continue
            for form in (word, word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word)):
                if form in _CLASS:
                    return _CLASS[form]
    return ""
