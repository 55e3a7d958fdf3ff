"""Random sentences for synthetic speech: everyday words, rich in lip closures and in every vowel."""

import numpy as np

_WORDS = """
about above across after again air all almost along always amber among and animal another answer apple April
arm army around ask aunt autumn away baby back bacon bad bag bake ball balloon bamboo banana band bank bar
barn basket bath beach beam bean bear beautiful because bed bee before begin behind believe bell below bench
best better between big bike bird birthday biscuit black blanket blossom blue board boat body book boot border
bottle bottom bowl box boy brave bread breakfast breath bridge bright bring broom brother brown brush bubble
build bus business busy butter button buy by cabbage cake calm camel camera camp can candle captain car
careful carpet carrot castle cat catch cave chair chalk champion change cheap cheese cherry chest chicken
child chimney chocolate choose church circle city clap class clean clever climb clock close cloud coach coat
coffee coin cold colour comb come compass computer cook copper corner could count country cousin cover cow
cream cup curtain cushion dance dark day dear deep deer describe desert different dinner doctor dog dolphin
door double down dragon dream dress drink drum dry duck dull dust each eagle early earth east easy eat egg
eight elbow elephant empty engine enjoy enough evening every example eye fable face fair family famous far
farm fast father favourite feather feel few field fifty film find finger fire first fish five flag flame
flower fly fog follow food foot football forest forget fork four fox free fresh friend frog from fruit full
funny game garden gate gentle ghost giant give glass glove go goat gold good goose grandma grape grass great
green grey group grow guess guitar hair half hammer hand happy harbour hard hat have head hear heart heavy
hedge hello help hen here hill hip history hold holiday home honey hope horse hot house how hundred hungry
hurry ice idea important inside iron island jam job join joke journey joy juice jump jungle just keep kettle
key kind king kitchen kite knee knife know lake lamb lamp language large last laugh lazy leaf learn leave left
leg lemon letter library life light like line lion lip listen little live lobster long look lovely low lucky
lunch machine magic make mammal man many map marble march market mask match matter maybe me meadow mean
measure meat melon member memory message metal middle milk million mind minute mirror miss mist money monkey
month moon more morning mother mountain mouse mouth move movie much mud music my name narrow near neck need
nest never new news nice night nine noble noise north nose notebook nothing now number nut oak ocean of off
often old olive on once one only open orange other our out over own owl package page paint pair palm pancake
panda paper parade park part party path pattern peace peach pear pebble pencil people pepper perfect perhaps
piano picture pie piece pig pilot pillow pink pipe place plan planet plate play please plum pocket poem point
polite pond pony pool poor popcorn port possible potato powder power present pretty prince problem promise
proud public pull pump pumpkin puppet purple push put puzzle queen question quick quiet rabbit radio rain
rather reach read ready real red remember rest ribbon rice rich ride right ring river road robin rock roof
room rope rose round row ruby run sad sail salt same sand save say school science sea season see seven shade
shadow shape share sharp sheep shelf shell shine ship shirt shoe shop short should shoulder show silver simple
sing sister six sky sleep slow small smell smile smoke smooth snow so soap soft some song soon sound soup
south space spark speak special spoon spring square stamp star station stone stop storm story strange stream
street strong student such sugar summer sun supper sure sweet swim table tail take talk tall tap tea teach
team teapot tell temple ten than thank that the their them then there these thick thin thing think third
thirsty this thousand three through thumb thunder ticket tiger time tiny today together tomato tomorrow tongue
too tooth top total touch towel tower town toy train travel tree trip trouble trumpet trust try turn twelve
two umbrella uncle under until up useful valley value vegetable very village violin visit voice wait walk wall
want warm wash watch water wave way we weather week welcome well west wet whale what wheat wheel when where
which while whisper white who whole why wide wild will wind window winter wise wish with woman wonder wood
wool word work world worry would write yard year yellow yes yesterday yet you young your zebra zero
""".split()  # noqa: SIM905

_HELD_OUT = (
    "Please bring my brown umbrella before the weather becomes bad.",
    "Five brave pilots flew over the frozen valley at noon.",
    "She showed me a map of the old harbour, and we both laughed.",
    "Maybe people prefer simple music by the open window.",
    "What a wonderful evening to walk along the river with you!",
    "The baker put warm bread and apple pie upon the table.",
    "Our team will meet at half past seven in the main lobby.",
    "Who knows why the yellow moon looks so big in summer?",
    "I never thought that learning this could be so much fun.",
    "Bob and Pam jumped on the bus to buy some purple plums.",
    "Thank you for waiting; we will be with you in a moment.",
    "Oh no, my poor puppy ate the whole birthday cake again.",
)
_JOINTS = (" ", " ", " ", " ", " ", " ", ", ", "; ")
_ENDS = (".", ".", ".", "!", "?")


def random_sentence(rng: np.random.Generator, held_out: bool = False) -> str:
    """3 to 11 words with pauses; `held_out` gives one of the sentences kept for evaluation."""
    if held_out:
        return str(rng.choice(_HELD_OUT))
    words = rng.choice(_WORDS, int(rng.integers(3, 12)))
    text = "".join(word + str(rng.choice(_JOINTS)) for word in words).strip(" ,;")
    return text[0].upper() + text[1:] + str(rng.choice(_ENDS))
