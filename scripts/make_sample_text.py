#!/usr/bin/env python3
"""Write the sample text of the quick starts: samples/train.txt and samples/valid.txt.

    python3 scripts/make_sample_text.py            writes both files again, byte for byte the same

The text is the day book of Alderhaven, a harbour town that does not exist: one paragraph per line, an empty line
between days. train.txt is one whole year; valid.txt is every eighth day of the year after it, so it has new days
of the same world, in all seasons. The text is original and made by this file alone, from a small grammar: `[a|b]`
in a template is one of a and b.

What a model can find in it, from near to far:
  * set phrases and grammar: articles, pronouns that agree with a name, punctuation, quotation marks;
  * facts that always hold: who does what where, whose animal is called what, who drinks what, who is whose kin;
  * the calendar: a weekday has its own event, a season its weather, its fruit and its soup;
  * things said early in a day that return at its end: the weather, a thing lost in the morning and found at
    night, a price, a bet, a guest, the answer to a riddle.

Only the standard library; nothing of `random` is used whose results may differ between Python versions.
"""

import pathlib
import random
import re

SEED = 1904


class Dice:
    """Choices built on `random.random()` alone, which Python promises never to change."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def below(self, n):
        return int(self.rng.random() * n)

    def pick(self, items):
        return items[self.below(len(items))]

    def sample(self, items, n):
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in range(n)]

    def chance(self, p):
        return self.rng.random() < p


class Person:
    def __init__(self, name, sex, trade, place, animal, pet, keepsake, drink, habit, wish):
        self.name, self.trade, self.place, self.animal, self.pet = name, trade, place, animal, pet
        self.keepsake, self.drink, self.habit, self.wish = keepsake, drink, habit, wish
        self.they, self.them, self.their = ("she", "her", "her") if sex == "f" else ("he", "him", "his")
        self.They, self.Their = self.they.capitalize(), self.their.capitalize()


PEOPLE = {p.name: p for p in [
    Person("Marta", "f", "baker", "the bakery in Mill Lane", "cat", "Nutmeg", "copper thimble", "hot cocoa",
           "hums while she kneads the dough", "an oven with two doors"),
    Person("Tobias", "m", "lighthouse keeper", "the lighthouse on Gull Point", "dog", "Barnacle", "brass telescope",
           "black tea", "counts the ships before breakfast", "a night without fog"),
    Person("Ida", "f", "ferrywoman", "the ferry landing", "goat", "Captain", "red lantern", "cold cider",
           "talks to the river as if it were a cousin", "a wider boat"),
    Person("Oswin", "m", "schoolmaster", "the schoolhouse on the green", "jackdaw", "Comma", "green umbrella",
           "mint tea", "answers every question with another question", "a map of the whole world"),
    Person("Hanna", "f", "blacksmith", "the smithy by the bridge", "mule", "Anvil", "pair of leather gloves",
           "ginger beer", "strikes the iron three times for luck", "a bell that never cracks"),
    Person("Leo", "m", "postman", "the post office", "donkey", "Parcel", "bicycle bell", "warm milk with honey",
           "whistles so that the dogs know him", "a letter with his own name on it"),
    Person("Greta", "f", "doctor", "the white house behind the chapel", "tortoise", "Minute", "blue notebook",
           "nettle tea", "writes down everything twice", "a winter without coughs"),
    Person("Bram", "m", "fisherman", "the old pier", "gull", "Admiral", "woollen cap", "strong coffee",
           "never counts the fish before the boat is tied", "a net that mends itself"),
    Person("Nell", "f", "boatbuilder", "the boatyard", "puppy", "Plank", "folding ruler", "elderflower cordial",
           "measures twice and cuts once", "an oak as tall as the tower"),
    Person("Silas", "m", "clockmaker", "the clock tower", "owl", "Midnight", "silver watch", "rosehip tea",
           "arrives exactly on time", "a clock that laughs at noon"),
    Person("Wilma", "f", "gardener", "the orchard above the town", "goose", "Duchess", "straw hat", "apple juice",
           "greets each tree by its name", "rain at night and sun by day"),
    Person("Jonas", "m", "innkeeper", "the Copper Kettle", "hound", "Biscuit", "old fiddle", "spiced pear juice",
           "remembers what everyone likes to drink", "a guest who tells a new story"),
]}
NAMES = list(PEOPLE)

KIN = [
    ("Leo", "Marta", "younger brother"), ("Marta", "Leo", "older sister"), ("Nell", "Tobias", "niece"),
    ("Tobias", "Nell", "uncle"), ("Silas", "Oswin", "oldest friend"), ("Bram", "Ida", "cousin"),
    ("Wilma", "Hanna", "aunt"), ("Jonas", "Greta", "husband"), ("Greta", "Jonas", "wife"),
    ("Hanna", "Wilma", "niece"), ("Ida", "Bram", "cousin"), ("Oswin", "Silas", "oldest friend"),
]

# What each trade makes: thing, plural, and what it is made of or comes from.
WARES = {
    "Marta": [("loaf of rye bread", "loaves of rye bread", "the finest flour"),
              ("plum cake", "plum cakes", "the last of the plums"),
              ("raisin bun", "raisin buns", "raisins and butter")],
    "Hanna": [("iron hook", "iron hooks", "the best iron"), ("door hinge", "door hinges", "the best iron"),
              ("kettle", "kettles", "old copper")],
    "Nell": [("pair of oars", "pairs of oars", "pale ash wood"), ("rowing boat", "rowing boats", "seasoned oak"),
             ("wooden bucket", "wooden buckets", "seasoned oak")],
    "Bram": [("basket of herring", "baskets of herring", "the net with the blue floats"),
             ("string of mackerel", "strings of mackerel", "the long line")],
    "Wilma": [("jar of honey", "jars of honey", "the comb from the lowest hive"),
              ("bunch of lavender", "bunches of lavender", "the tallest stalks by the wall")],
    "Silas": [("pocket watch", "pocket watches", "forty small wheels"),
              ("kitchen clock", "kitchen clocks", "a dozen brass wheels")],
    "Greta": [("bottle of cough syrup", "bottles of cough syrup", "thyme and honey"),
              ("pot of salve", "pots of salve", "marigold and beeswax")],
}

MONTHS = [("January", 31), ("February", 28), ("March", 31), ("April", 30), ("May", 31), ("June", 30), ("July", 31),
          ("August", 31), ("September", 30), ("October", 31), ("November", 30), ("December", 31)]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
SEASON = dict(zip([m for m, _ in MONTHS], ["winter", "winter", "spring", "spring", "spring", "summer", "summer",
                                           "summer", "autumn", "autumn", "autumn", "winter"]))

# Weather: the morning, a remark at midday, the evening that follows from it.
WEATHER = {
    "winter": [
        ("snow", "Snow had fallen in the night, and [the roofs were white from the mill to the pier|the whole town was quiet under it|only the cats had left their marks in the lanes]",
         "the snow [creaked under every boot|lay deep on the green]", "[It snowed again after dark, and the lamps wore white caps|After dark the snow fell so thickly that the bridge was gone]"),
        ("frost", "The frost had drawn [ferns|feathers|stars] on every window, and the [puddles|buckets] were hard as glass",
         "the frost [held even at noon|did not leave the shade]", "[The night was clear and bitterly cold, and the stars seemed very near|The frost came back with the dark, and the river began to sing]"),
        ("storm", "A storm came in from the north before dawn and [threw spray over the harbour wall|shook every shutter in Mill Lane]",
         "the storm [roared in the chimneys|kept the boats in the harbour]", "[By nightfall the storm had blown itself out, and the sea went on muttering alone|The storm still howled at midnight, and nobody slept but the tortoise]"),
    ],
    "spring": [
        ("rain", "A soft rain was falling, and [the gutters sang|the lanes shone like fish|every bud had a drop at its tip]",
         "the rain [tapped on the windows|drummed on the upturned boats]", "[The rain stopped at dusk, and the blackbirds sang until the lamps were lit|The rain went on into the night, and the frogs were pleased]"),
        ("wind", "A fresh wind blew from the west and [chased the clouds over the bay|turned the mill so fast that the miller laughed]",
         "the wind [pulled at hats and washing|rattled the signs]", "[The wind dropped in the evening, and the flags hung down like sleeping birds|All night the wind tried every door in town]"),
        ("sun", "The sun rose into a clean sky, and [the first swallows came over the water|the whole orchard smelled of blossom]",
         "the sun [warmed the stones of the quay|stood bright above the tower]", "[The sun went down red behind Stone Island, which means another fine day|When the sun was gone, the sky stayed green for a long time]"),
    ],
    "summer": [
        ("heat", "It was hot before breakfast, and [the tar was soft between the planks of the pier|the dogs lay in the shade of the wall]",
         "the heat [made even the gulls silent|lay on the square like a blanket]", "[The heat stayed in the walls long after dark, and people sat on their doorsteps|The heat was gone by midnight, and the sea smelled of melons]"),
        ("sun", "The sun was up early, and [the bay was as smooth as a plate|the bees were at the lime trees before anyone else was awake]",
         "the sun [stood high above the tower|glittered on the water]", "[The sun went down red behind Stone Island, which means another fine day|When the sun was gone, the sky stayed green for a long time]"),
        ("thunder", "The air was heavy, and [thunder walked about behind the hills|the swallows flew low over the green]",
         "the thunder [came nearer|rolled from hill to hill]", "The thunder broke at last, the rain came down in ropes, and everyone slept well"),
    ],
    "autumn": [
        ("fog", "Fog had come up from the river, and [the bridge ended in the middle of the air|the tower had lost its clock|the ships called to one another like cows]",
         "the fog [hid the far side of the square|would not lift]", "[The fog grew thicker after dark, and the horn of the lighthouse sounded all night|The fog lifted at last, and the moon looked surprised]"),
        ("wind", "A rough wind blew from the sea and [filled the lanes with leaves|took two tiles from the roof of the chapel]",
         "the wind [rattled the signs|drove the leaves across the green]", "[The wind dropped in the evening, and the flags hung down like sleeping birds|All night the wind tried every door in town]"),
        ("rain", "It rained, as it rains in autumn, [without haste and without end|straight down and all day long]",
         "the rain [ran down the windows|drummed on the upturned boats]", "[It was still raining when the lamps went out, and nobody expected anything else|Late at night the rain grew tired, and one star came out]"),
    ],
}

PRODUCE = {
    "winter": (["turnips", "leeks", "dried apples", "walnuts"], "leek soup"),
    "spring": (["radishes", "rhubarb", "young onions", "eggs"], "nettle soup"),
    "summer": (["strawberries", "peas", "cherries", "beans"], "cold cucumber soup"),
    "autumn": (["pumpkins", "apples", "mushrooms", "pears"], "pumpkin soup"),
}

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
           "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]

RIDDLES = [
    ("What has hands but never washes them?", "a clock"), ("What runs all day and never leaves its bed?", "the river"),
    ("What has teeth and cannot bite?", "a comb"), ("What grows larger the more you take away from it?", "a hole"),
    ("What goes up the hill and down the hill and never moves?", "the road"),
    ("What can you break without touching it?", "a promise"), ("What has an eye but cannot see?", "a needle"),
    ("What is full of holes and still holds water?", "a sponge"), ("What gets wetter the more it dries?", "a towel"),
    ("What has a neck but no head?", "a bottle"), ("What follows you all day and leaves you at night?", "your shadow"),
    ("What speaks every language and has never been to school?", "the echo"),
]

PROVERBS = [
    "A late tide still lifts the boat", "He who counts the waves forgets to row", "Bread tastes best on the way home",
    "A borrowed umbrella brings the rain", "Two lanterns are better than one map", "The gull that shouts eats last",
    "Old rope, good knots", "Nobody is a stranger at the second cup", "A quiet mill grinds nothing",
    "Even the tower began with one stone", "Do not scold the wind for moving your hat", "Warm hands make good clocks",
]

STORIES = [
    "the captain who sold his shadow for a following wind", "the giant who fell asleep and became Stone Island",
    "the fish that swallowed a church bell and rang at every tide", "the princess who married the lighthouse",
    "the thief who stole a minute from every clock", "the winter when the river froze and the foxes went to market",
    "the baker whose bread could float", "the whale that was afraid of deep water",
]

TUNES = ["The Herring Girls", "Goodbye to Gull Point", "The Miller's Left Shoe", "Seven Ropes", "Moon over the Ferry",
         "The Goose on the Green"]

HIDING = ["under the third bench of the schoolhouse", "in the big flour bin", "behind the stove of the Copper Kettle",
          "in a coil of rope on the old pier", "at the bottom of the mail bag", "in the hollow pear tree",
          "on the highest step of the clock tower", "between two planks in the boatyard", "in the horse trough by the bridge",
          "under the seat of the ferry"]

ERRANDS = [
    ("Hanna", "Nell", "a box of nails", "the new boat"), ("Marta", "Jonas", "a tray of raisin buns", "the guests"),
    ("Wilma", "Greta", "a basket of herbs", "the cough syrup"), ("Bram", "Jonas", "a bucket of mussels", "the soup"),
    ("Silas", "Tobias", "a small brass wheel", "the great lamp"), ("Nell", "Ida", "a new oar", "the ferry"),
    ("Greta", "Oswin", "a jar of ointment", "his stiff knee"), ("Hanna", "Wilma", "a sharpened spade", "the rose beds"),
    ("Wilma", "Marta", "a crate of plums", "the plum cakes"), ("Nell", "Oswin", "a new bench", "the schoolroom"),
    ("Bram", "Greta", "a slice of smoked eel", "her supper"), ("Silas", "Jonas", "the mended clock", "the taproom"),
]

VISITORS = [
    ("a painter with a broken easel", "painted the harbour in three colours", "a picture of the pier"),
    ("a tall woman with a cello", "played for the fishermen until the moon rose", "a tune that nobody can forget"),
    ("a surveyor with a very long chain", "measured the green and found it larger than last time", "a drawing of the bridge"),
    ("an old sailor with a wooden leg", "told of cities where the streets are water", "a shell as big as a hat"),
    ("a young botanist in muddy boots", "looked for a blue moss on the tower", "a pressed flower"),
    ("a knife grinder from the hills", "sharpened every blade in Mill Lane", "a bag of chestnuts"),
    ("a travelling bookseller", "read aloud from the first page of every book", "a book without an end"),
    ("a magician with a sleepy rabbit", "made a spoon vanish and could not bring it back", "a paper star"),
]


class Day:
    """One day: the facts that hold for it, and the scenes told about it."""

    def __init__(self, dice, weekday, month, date):
        self.dice, self.weekday, self.month, self.date = dice, weekday, month, date
        self.season = SEASON[month]
        self.produce, self.soup = PRODUCE[self.season]
        self.sky, self.morning, self.midday, self.night = dice.pick(WEATHER[self.season])
        self.loser = PEOPLE[dice.pick(NAMES)] if dice.chance(0.45) else None
        self.visitor = dice.pick(VISITORS) if dice.chance(0.25) else None
        self.used = []

    def person(self, *besides):
        """Somebody who has not been on stage today, as long as there is such a person."""
        taken = [p.name for p in besides if p is not None]
        free = [n for n in NAMES if n not in taken and n not in self.used] or [n for n in NAMES if n not in taken]
        name = self.dice.pick(free)
        self.used.append(name)
        return PEOPLE[name]

    def say(self, template, **facts):
        """Fills a template: names first, then one of each `[a|b]`, innermost first; then capitals."""
        text = template.format(day=self, **facts)
        while True:
            inner = re.search(r"\[([^\[\]]*)\]", text)
            if inner is None:
                break
            text = text[:inner.start()] + self.dice.pick(inner.group(1).split("|")) + text[inner.end():]
        return re.sub(r"(^|[.!?] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text).strip()

    # The fixed parts of a day.

    def opening(self):
        text = self.morning + ". "
        p = self.person(self.loser)
        text += self.dice.pick([
            "{p.name} the {p.trade} was the first to be up, for {p.they} {p.habit}. ",
            "At {p.place} {p.name} [began the day with {p.drink}|looked at the sky|sang a little] and [wished|hoped] for {p.wish}. ",
            "{p.name} stepped out with {p.their} {p.animal} {p.pet} and said that {day.sky} in {day.month} [brings luck|means a good catch|was just what the almanac had promised]. ",
            "In front of {p.place} the {p.animal} {p.pet} waited for {p.name}, as on every other morning. ",
        ])
        if self.loser:
            text += self.dice.pick([
                "[But|Only] {q.name} the {q.trade} was in a bad mood: {q.their} {q.keepsake} was [gone|nowhere to be found|missing].",
                "{q.name} [looked everywhere|turned out every drawer|asked at every door], because {q.they} had lost {q.their} {q.keepsake}.",
                "\"Has anybody seen my {q.keepsake}?\" {q.name} asked [at every corner|everyone on the quay], and nobody had.",
            ])
        return self.say(text, p=p, q=self.loser)

    def event(self):
        d = self.dice
        p, q = self.person(), self.person()
        if self.weekday == "Monday":
            n = 2 + d.below(18)
            return self.say(
                "On Mondays the mail boat comes. [Today|This time] it brought {n} letters, {parcel} and [yesterday's|last week's] newspaper. "
                "Leo loaded everything onto the donkey Parcel and rang {bell}. {p.name} [got|received] a letter from "
                "[the city|a cousin|an old friend] and [read it twice|put it away unread|read it aloud], but for {q.name} there was nothing, "
                "[and {q.they} said that no news is good news|so {q.they} went back to {q.place}].",
                p=p if p.name != "Leo" else PEOPLE["Greta"], q=q if q.name not in ("Leo", "Greta") else PEOPLE["Nell"],
                n=NUMBERS[n], parcel=d.pick(["a heavy parcel", "a crate of oranges", "a roll of blue cloth", "two sacks of coffee"]),
                bell="at every door" if self.loser and self.loser.name == "Leo" else "his bicycle bell")
        if self.weekday == "Tuesday":
            riddle, answer = d.pick(RIDDLES)
            child, other = d.sample(["Pip", "Annika", "little Sam", "Rosa", "Emil"], 2)
            return self.say(
                "On Tuesdays Oswin begins his lessons with a riddle. \"{riddle}\" he asked, and the jackdaw Comma [tilted its head|hopped along the desk]. "
                "{child} thought that it must be {wrong}. [\"Nearly,\" said Oswin, which means no.|\"Is it?\" said Oswin, which means no.] "
                "{day.midday}, and it was quiet for a while. Then {other} [jumped up|raised a hand] and called: \"It is {answer}!\" "
                "And {answer} it was.",
                riddle=riddle, answer=answer, child=child, other=other,
                wrong=d.pick([a for _, a in RIDDLES if a != answer]))
        if self.weekday == "Wednesday":
            things = d.sample(self.produce, 3)
            seller = PEOPLE[d.pick(sorted(WARES))]
            one, many, _ = d.pick(WARES[seller.name])
            price, count = 2 + d.below(3), 2 + d.below(4)
            return self.say(
                "On Wednesdays there is a market in the square. There were {a}, {b} and {c}, [as there should be in {day.season}|and plenty of each], and {day.midday}. "
                "{s.name} the {s.trade} asked {price} pennies for a {one}. {p.name} bought {count} {many} and paid {total} pennies, "
                "[and both were content|not one more and not one less|though {p.they} had meant to buy only one].",
                a=things[0], b=things[1], c=things[2], s=seller, p=self.person(seller), one=one, many=many,
                price=NUMBERS[price], count=NUMBERS[count], total=NUMBERS[price * count])
        if self.weekday == "Thursday":
            return self.say(
                "On Thursdays the ferry goes over to Stone Island. Ida took {p.name}, {q.name} and [a barrel of salt|a crate of hens|four sheep] on board, "
                "and the goat Captain stood at the bow [as always|like a figurehead]. [The crossing took an hour|They were across before the bells rang|The tide was with them], and {day.midday}. "
                "On the island {p.name} [looked for amber|ate an apple|drew the old fort] while {q.name} [slept in the grass|visited the hermit|counted the seals]. "
                "[Before dark|With the evening tide] Ida brought {p.name} and {q.name} home again.",
                p=p if p.name != "Ida" else PEOPLE["Marta"], q=q if q.name not in ("Ida", "Marta") else PEOPLE["Silas"])
        if self.weekday == "Friday":
            tune = d.pick(TUNES)
            no_fiddle = self.loser and self.loser.name == "Jonas"
            return self.say(
                "On Fridays there is music at the Copper Kettle. Jonas [took the {inst} from the wall|put the {inst} under his chin], and he began with {tune}, "
                "[because {p.name} had asked for it|as he always does when the room is full]. There was {day.soup}, [and second helpings|with bread from the bakery]. "
                "{p.name} had {p.drink}, {q.name} had {q.drink}, and [they danced until the lamps smoked|the hound Biscuit howled at the high notes|even the doorstep was taken]. "
                "At the end everyone sang {tune} once more.",
                p=p if p.name != "Jonas" else PEOPLE["Bram"], q=q if q.name not in ("Jonas", "Bram") else PEOPLE["Hanna"],
                tune=tune, inst="borrowed fiddle" if no_fiddle else "old fiddle")
        if self.weekday == "Saturday":
            first, second, third = d.sample(["the Second Chance", "the Blue Heron", "the Patient Margaret", "the Salt Rose"], 3)
            return self.say(
                "On Saturdays the boats race around the [buoy|island]. {p.name} bet on {first}, and {q.name} bet on {second}. "
                "[At the start|For half an hour] {second} was ahead, but [off Gull Point|at the buoy|in the last minute] {first} [took the inside line|caught a better wind] and won, with {second} behind and {third} last. "
                "So {p.name} won the bet, and {q.name} [paid with {p.drink}|had to scrub the pier|promised to mend the nets].",
                p=p, q=q, first=first, second=second, third=third)
        text = (
            "On Sundays nobody is in a hurry. After the bells {p.name} [walked|strolled] up to {g.place} and found {g.name} [in a good mood|asleep in a chair|with a full table]. "
            "They shared {g.drink} and [a plum cake|warm bread|the last of the cheese], and {day.midday}. "
            "[\"{proverb},\" said {g.name}.|{g.name} told of {story}.] {p.name} [nodded|laughed|was not so sure] and stayed until [four|five|six] o'clock.")
        return self.say(text, p=p, g=self.person(p), proverb=d.pick(PROVERBS), story=d.pick(STORIES))

    def closing(self):
        d = self.dice
        text = "{day.night}. "
        if self.loser:
            finder = self.person(self.loser)
            text = d.pick([
                "In the evening {f.name}'s {f.animal} {f.pet} sat {hole} and would not come away. There lay the {q.keepsake}! {f.name} brought it to {q.name}, who [could hardly speak for joy|poured out {q.drink} for everybody|gave {f.pet} the best piece of the supper]. ",
                "It was {f.name} who found the {q.keepsake} in the end, {hole}. {q.name} [thanked {f.them} three times|paid for {f.drink}|said that {q.they} had looked there first], and so {q.name} the {q.trade} went to bed happy. ",
                "At supper {f.name} [reached into a pocket|put something on the table] and asked: \"Whose {q.keepsake} is this? It was {hole}.\" \"Mine!\" cried {q.name}. ",
            ]) + text
            return self.say(text, f=finder, q=self.loser, hole=d.pick(HIDING))
        p = self.person()
        text += d.pick([
            "{p.name} drank {p.their} {p.drink} and put out the light.",
            "The {p.animal} {p.pet} slept at {p.name}'s feet.",
            "The last light to go out was the one at {p.place}, where {p.name} [was still awake|was writing a letter|could not stop reading].",
            "\"{proverb},\" said {p.name}, and nobody had anything to add.",
            "Only the lamp on Gull Point went round and round, and Tobias [kept watch beside it|counted the ships].",
        ])
        return self.say(text, p=p, proverb=d.pick(PROVERBS))

    # The scenes that may or may not happen.

    def scene_errand(self):
        giver, taker, thing, use = self.dice.pick(ERRANDS)
        return self.say(
            "{g.name} sent {child} to {t.place} with {thing} for {t.name}. [It was meant for {use}|{t.name} needed it for {use}]. "
            "On the way {child} met the {x.animal} {x.pet}, [which would not let anyone pass|and the two went on together], "
            "and so [it was noon|an hour went by] before {t.name} had {the_thing}. \"[Better late than never|Just in time],\" said the {t.trade}, and {child} got [a penny|a pear|a raisin bun] for the trouble.",
            g=PEOPLE[giver], t=PEOPLE[taker], thing=thing, the_thing=re.sub("^(a|an) ", "the ", thing), use=use, child=self.dice.pick(["Pip", "Annika", "Rosa", "Emil"]),
            x=self.person(PEOPLE[giver], PEOPLE[taker]))

    def scene_visitor(self):
        who, did, left = self.visitor
        host = self.person()
        return self.say(
            "There was a visitor in town: {who}. {h.name} [met the stranger on the bridge|showed the stranger the way|offered the stranger {h.drink}], "
            "and [by noon|within the hour] everyone knew about it. [In the square|On the quay] the visitor {did}, while {day.midday}. "
            "[With the last ferry|At dusk] the stranger left again, and {h.name} [kept|was given] {left}.",
            who=who, did=did, left=left, h=host)

    def scene_letter(self):
        p, q = self.person(), self.person()
        return self.say(
            "{p.name} wrote a letter: \"Dear {q.name}, [the {day.sky} keeps me at {p.place}|I cannot come today, because of the {day.sky}]. "
            "My {p.animal} {p.pet} [is well|has a cold|asks after {q.pet}], and I [still dream of|would give my {p.keepsake} for] {p.wish}. "
            "[Come and have {p.drink} with me|Bring {q.pet} and stay for supper] on {other}. Yours, {p.name}.\" "
            "Leo carried it to {q.place}, and {q.name} [answered at once|smiled and put it behind the clock].",
            p=p if p.name != "Leo" else PEOPLE["Oswin"], q=q if q.name not in ("Leo", "Oswin") else PEOPLE["Tobias"],
            other=self.dice.pick([w for w in DAYS if w != self.weekday]))

    def scene_work(self):
        p = PEOPLE[self.dice.pick(sorted(WARES))]
        one, many, stuff = self.dice.pick(WARES[p.name])
        n = 2 + self.dice.below(5)
        return self.say(
            "At {p.place} {p.name} the {p.trade} [worked on|finished] {n} {many} [before noon|without a pause]. {p.They} [took|used] {stuff}, [as always|of course|and nothing else], "
            "and, as everyone knows, {p.they} {p.habit}. The {p.animal} {p.pet} [watched|slept through it all|lay in the doorway]. "
            "{q.name} [came by|looked in] and wanted a {one}, so {rest} {left} left.",
            p=p, q=self.person(p), one=one, many=many, stuff=stuff, n=NUMBERS[n], rest=NUMBERS[n - 1],
            left="was" if n == 2 else "were")

    def scene_animals(self):
        p, q = self.person(), self.person()
        return self.say(
            "{p.name}'s {p.animal} {p.pet} and {q.name}'s {q.animal} {q.pet} [had a quarrel|met] [on the bridge|in the middle of the square|behind the chapel]. "
            "{p.pet} wanted to go [left|right], {q.pet} did not want to move at all, and {day.midday}. "
            "[A crowd gathered|The children laid bets|Nobody could get by]. In the end {q.name} came running from {q.place} with [a carrot|a piece of cheese|a crust of bread], "
            "and {q.pet} followed {q.them} home as if nothing had happened. {p.pet} [looked very proud|sat down in the road|went to find {p.name}].",
            p=p, q=q)

    def scene_kin(self):
        a, b, word = self.dice.pick(KIN)
        return self.say(
            "{a.name} is {b.name}'s {word}, and [anyone can see it|you would not guess it]: {a.name} {a.habit}, while {b.name} {b.habit}. "
            "[Today|At noon] {a.they} [came to|sat in front of] {b.place} with {a.drink} in a can, and they talked about {topic}. "
            "\"{proverb},\" said {b.name}. \"[You always say that|Not in {day.month}],\" said {a.name}.",
            a=PEOPLE[a], b=PEOPLE[b], word=word, proverb=self.dice.pick(PROVERBS),
            topic=self.dice.pick(["the price of flour", "the old days", "the new bell", "the height of the tide",
                                  "next month's fair", "the best way to cook herring"]))

    def scene_ill(self):
        p = self.person(PEOPLE["Greta"])
        return self.say(
            "{p.name} the {p.trade} had [a cough|a sore thumb|a stiff neck|a headache] and [stayed at home|went to see the doctor]. Greta [listened|looked at it closely], opened the blue notebook and wrote it down twice. "
            "\"No {p.drink} today,\" she said, \"only nettle tea.\" {p.name} [made a face|sighed] and drank it, and [by evening|within an hour] {p.they} [was back at|could go back to] {p.place}. "
            "The tortoise Minute had [not moved|taken four steps] in all that time."
            if not (self.loser and self.loser.name == "Greta") else
            "{p.name} the {p.trade} had [a cough|a sore thumb|a stiff neck] and went to see the doctor, but without her blue notebook Greta [would not start|was lost]. "
            "\"Drink nettle tea,\" she said at last, \"and come again tomorrow.\" {p.name} [made a face|sighed] and went back to {p.place}.",
            p=p)

    def scene_story(self):
        p = self.person()
        return self.say(
            "[After school|When the work was done] the children sat around {p.name} at {p.place} and begged for a story. \"[Which one|Again]?\" asked {p.name}. \"The one about {story}!\" "
            "So {p.they} took a sip of {p.drink} and told of {story}, and {day.midday}. "
            "[Pip|Annika|Rosa|Emil] [fell asleep before the end|said that it could not be true|asked how it went on], and the {p.animal} {p.pet} [yawned|listened too].",
            p=p, story=self.dice.pick(STORIES))

    def scene_tide(self):
        high = self.dice.chance(0.5)
        return self.say(
            "The tide was high at [six|seven|eight] in the morning, so the boats went out early, and Bram [was the first past the pier|had the gull Admiral on his shoulder]. "
            "He came home at noon with {n} baskets of [herring|mackerel], \"and no lies about it,\" as he said. Ida bought one, and so {rest} went to the Copper Kettle."
            if high else
            "The tide was low in the morning, so the boats lay on the mud and nobody could go out. Bram mended his nets [and told the gull Admiral about {story}|with the gull Admiral on his shoulder]. "
            "Ida waited at the ferry landing with the goat Captain. Only [in the afternoon|after three o'clock] did the water come back, and by then {day.midday}.",
            n=NUMBERS[4], rest="three", story=self.dice.pick(STORIES))

    def scene_clock(self):
        n = 3 + self.dice.below(7)
        p = self.person(PEOPLE["Silas"])
        return self.say(
            "The clock on the tower stopped at {n} o'clock, and for a while it was {n} o'clock in all of Alderhaven. {p.name} [was glad of the rest|came too late for everything]. "
            "Silas climbed up with [his tools|a drop of oil] and the owl Midnight, and found [a feather|a bird's nest|a rusty pin|a sleepy beetle] in the works. "
            "[An hour later|Before lunch] the clock went again, and {p.name} said that {n} o'clock had never been so long.",
            p=p, n=NUMBERS[n])

    def text(self):
        d = self.dice
        scenes = [self.scene_errand, self.scene_letter, self.scene_work, self.scene_animals, self.scene_kin, self.scene_ill,
                  self.scene_story, self.scene_tide, self.scene_clock]
        told = [f() for f in d.sample(scenes, 1 + d.below(2))]
        middle = [self.event()] + told + ([self.scene_visitor()] if self.visitor else [])
        if self.weekday != "Friday":
            middle = d.sample(middle, len(middle))
        else:
            middle = middle[1:] + middle[:1]
        header = f"{self.weekday}, {self.date} {self.month}."
        return [header + " " + self.opening(), *middle, self.closing()]


def year(dice, first_weekday):
    """The paragraphs of all 365 days of a year, day by day."""
    dates = [(month, date) for month, length in MONTHS for date in range(1, length + 1)]
    return [Day(dice, DAYS[(first_weekday + i) % 7], month, date).text() for i, (month, date) in enumerate(dates)]


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "samples"
    folder.mkdir(exist_ok=True)
    train = year(Dice(SEED), first_weekday=0)
    valid = year(Dice(SEED + 1), first_weekday=1)[::8]
    for name, days in [("train.txt", train), ("valid.txt", valid)]:
        text = "\n\n".join("\n".join(paragraphs) for paragraphs in days) + "\n"
        (folder / name).write_bytes(text.encode("utf-8"))
        print(f"{folder / name}: {len(days)} days, {len(text.split())} words, {len(text)} bytes")


if __name__ == "__main__":
    main()
