"""The vocabulary of the demo's reviews: what is reviewed, in which words, with which decoys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Polar:
    """Words of one polarity, weak to strong; a word's strength is its list's place, 1 to 3."""

    weak: tuple[str, ...]
    middling: tuple[str, ...]
    strong: tuple[str, ...]

    def graded(self) -> list[tuple[str, int]]:
        """Every word with its strength."""
        return [(w, s) for s, words in enumerate((self.weak, self.middling, self.strong), 1) for w in words]


@dataclass(frozen=True, slots=True)
class Subject:
    """One category of things reviewed: its parts, its own adjectives, plain facts and decoys about it."""

    aspects: tuple[str, ...]
    plural_aspects: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    facts: tuple[str, ...]
    decoys: tuple[str, ...]


ADJECTIVES = {
    1: Polar(
        weak=("decent", "fine", "solid", "pleasant"),
        middling=("good", "great", "lovely", "impressive"),
        strong=("wonderful", "excellent", "superb", "brilliant"),
    ),
    0: Polar(
        weak=("average", "mediocre", "uneven", "tired"),
        middling=("bad", "poor", "weak", "disappointing"),
        strong=("terrible", "awful", "dreadful", "dismal"),
    ),
}
VERDICTS = {1: ("triumph", "joy", "delight", "success"), 0: ("letdown", "mess", "failure", "disaster")}
VERBS = {1: (("enjoy", "enjoyed"), ("love", "loved")), 0: (("dislike", "disliked"), ("hate", "hated"))}
"""Verbs with their past tense."""
ADVERBS = ("", "", "", "really ", "truly ", "simply ", "quite ", "rather ")
NEGATORS = ("not {}", "not at all {}", "never {}", "hardly {}", "far from {}", "anything but {}")
ADVICE = {
    1: ("I would recommend it to anyone", "I would gladly choose it again", "It is worth every penny"),
    0: ("I would warn anyone against it", "I would rather have my money back", "It is a waste of money"),
}
NEGATED_ADVICE = {
    1: ("It is not a waste of money", "I would never want my money back"),
    0: ("I would not recommend it to anyone", "It is not worth a penny"),
}
MIXED_CLOSINGS = (
    "I am still in two minds about it",
    "I cannot quite decide what to think",
    "Make of that what you will",
    "Opinions at home were divided",
)
OCCASIONS = (
    "A colleague told me about it last month",
    "We chose it for my sister's birthday",
    "I had read about it in the paper",
    "It was the second time for me and the first for my brother",
    "I am writing this on the train home",
    "My parents came along as well",
)

SUBJECTS = {
    "film": Subject(
        aspects=("plot", "acting", "soundtrack", "ending", "dialogue", "camera work"),
        plural_aspects=("costumes", "jokes", "action scenes"),
        positive=("gripping", "moving", "funny"),
        negative=("boring", "dull", "predictable"),
        facts=(
            "It runs for just over two hours",
            "We saw it on a rainy Sunday in March",
            "The story is set in Lisbon in the sixties",
            "It was shot in black and white",
        ),
        decoys=(
            "The trailer before it was for Great Expectations",
            "The lead is played by Joy Winter",
            "The villain is known as Dreadful Dan",
            "It is the sequel to Bad Weather",
        ),
    ),
    "book": Subject(
        aspects=("plot", "prose", "opening", "ending", "translation", "hero"),
        plural_aspects=("characters", "chapters", "descriptions"),
        positive=("gripping", "moving", "witty"),
        negative=("boring", "dull", "clumsy"),
        facts=(
            "It has about three hundred pages",
            "I read it in four evenings",
            "The story follows a family of bakers",
            "My copy came from the library",
        ),
        decoys=(
            "The author also wrote A Wonderful Winter",
            "The heroine is called Grace Lovely",
            "Her dog is named Awful Alfred",
            "The second part is titled The Poor Sailor",
        ),
    ),
    "phone": Subject(
        aspects=("battery", "screen", "camera", "speaker", "keyboard", "signal"),
        plural_aspects=("buttons", "updates", "headphones"),
        positive=("fast", "reliable", "sturdy"),
        negative=("slow", "unreliable", "flimsy"),
        facts=(
            "I bought it in April to replace an old one",
            "It comes with a cable and a paper guide",
            "I use it mostly for calls and maps",
            "Mine is the grey version",
        ),
        decoys=(
            "The model name is Brilliant Ten",
            "It ships with a game called Terrible Towers",
            "The case is sold under the name Superb Skin",
            "It came installed with the Weak Signal alarm",
        ),
    ),
    "hotel": Subject(
        aspects=("room", "breakfast", "bed", "view", "service", "bathroom"),
        plural_aspects=("corridors", "towels", "staff"),
        positive=("clean", "comfortable", "welcoming"),
        negative=("dirty", "noisy", "shabby"),
        facts=(
            "We stayed for three nights in June",
            "It stands two streets from the station",
            "Our room was on the fourth floor",
            "We arrived late and left early",
        ),
        decoys=(
            "It is on the corner of Pleasant Street",
            "The bar is called The Dismal Swan",
            "The owner is a certain Mr Fine",
            "A ship named Disaster hangs over the desk",
        ),
    ),
    "restaurant": Subject(
        aspects=("soup", "service", "dessert", "wine", "bread", "main course"),
        plural_aspects=("starters", "vegetables", "waiters"),
        positive=("delicious", "fresh", "generous"),
        negative=("stale", "greasy", "tasteless"),
        facts=(
            "We were a party of five",
            "It opened last autumn near the harbour",
            "We ordered two courses each",
            "The menu changes every week",
        ),
        decoys=(
            "It used to be called The Excellent Egg",
            "There is a cocktail named Bad Habit",
            "The chef trained at a place called Delight",
            "The house beer is sold as Old Misery and Hate",
        ),
    ),
}
