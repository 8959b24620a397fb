"""Typefaces as a fine-grained task: each class is one typeface, the images are words set in it.

    python scripts/real/fonts.py --out data/fonts

About 160 Latin typefaces of 135 Debian packages `fonts-*` (all of Debian main, so free; about.json names versions and
licences). Copies of an earlier typeface are left out: those whose letters a-z and A-Z, each scaled to the same box,
correlate above 0.97 with it.

No word is in two splits (words of Debian's `wamerican`), nor is a size: letters are scaled by the height of the x, so
that size does not give the typeface away, to 10, 13, 16 or 19 pixels in train, 11 or 17 in val and 12 or 15 in test,
of an image of 112. An image holds lines of words that run over its borders, at a small random angle, in dark on light
grey.
"""

import random
import sys
from pathlib import Path

import numpy as np
from copies import alike
from material import SPLITS, Package, check, debian, new_task, parse, parser, positive, save, write_record
from PIL import Image, ImageDraw, ImageFont

from gcp.cli.main import run
from gcp.errors import DataError

SIZE = 112
X_HEIGHTS = {"train": (10, 13, 16, 19), "val": (11, 17), "test": (12, 15)}  # pixels
SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}  # of the words
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
BOX = 24  # pixels to which letters are scaled to compare typefaces
ALIKE = 0.97
# package (without "fonts-"): files (without ending)
TYPEFACES = """
3270: 3270-Regular
adf-accanthis: AccanthisADFStd-Regular
adf-baskervald: BaskervaldADFStd
adf-berenis: BerenisADFPro-Regular
adf-gillius: GilliusADF-Regular
adf-ikarius: IkariusADFStd-Regular
adf-irianis: IrianisADFStd-Regular
adf-libris: LibrisADFStd-Regular
adf-mekanus: MekanusADFStd-Regular
adf-oldania: OldaniaADFStd-Regular
adf-romande: RomandeADFStd-Regular
adf-solothurn: Solothurn-Regular
adf-switzera: SwitzeraADF-Regular
adf-tribun: TribunADFStd-Regular
adf-universalis: UniversalisADFStd-Regular
adf-verana: Verana-Regular
agave: agave-r-autohinted
allerta: allerta_medium allerta_stencil
apropal: Apropal-Bold
arapey: Arapey-Regular
averia-gwf: AveriaGWF-Regular
averia-sans-gwf: AveriaSansGWF-Regular
averia-serif-gwf: AveriaSerifGWF-Regular
b612: B612-Regular B612Mono-Regular
bajaderka: Bajaderka-Regular
bebas-neue: BebasNeue-Regular
beteckna: Beteckna
blankenburg: Blankenburg_UNZ1A
breip: Breip
bwht: BecauseWeBuild-Regular BecauseWeLearn-Regular
cabin: Cabin-Regular
cabinsketch: CabinSketch-Regular
cantarell: Cantarell-Regular
cardo: Cardo104s
century-catalogue: Century-Catalogue
cherrybomb: CherryBomb-Regular
clear-sans: ClearSans-Regular
cmu: cmunrm cmunss cmuntt
comfortaa: Comfortaa-Regular
comic-neue: ComicNeue-Regular
compagnon: Compagnon-Roman
courier-prime: Courier_Prime
crosextra-caladea: Caladea-Regular
crosextra-carlito: Carlito-Regular
dancingscript: DancingScript-Regular
dejavu-core: DejaVuSans DejaVuSansMono DejaVuSerif
dkg-handwriting: dkg
dosis: Dosis-Book
dustin: Domestic_Manners Dustismo Dustismo_Roman
ebgaramond: EBGaramond12-Regular
ecolier-court: Ecolier-court
elstob: ElstobD-Regular
engadget: Engadget
essays1743: Essays1743
eurofurence: eurof55
fantasma: Fantasma-Bold
fantasque-sans: FantasqueSansMono-Regular
fanwood: Fanwood
femkeklaver: femkeklaver
ferrite-core: FerriteCoreDX-Regular
firacode: FiraCode-Regular
freefont-otf: FreeMono FreeSans FreeSerif
gamaliel: Gamaliel
georgewilliams: Caliban CaslonRoman Cupola
gfs-neohellenic: GFSNeohellenic
gnutypewriter: GNUTypewriter
go: Go-Regular Go-Mono
gotico-antiqua: Hamlet-Tertia18 Jessen-Mittel14
goudybookletter: GoudyBookletter1911
hack: Hack-Regular
havana: Havana-Regular
hermit: Hermit-medium
humor-sans: Humor-Sans
inconsolata: Inconsolata
inter: Inter-Regular
isabella: Isabella
jetbrains-mono: JetBrainsMono-Regular
joscelyn: Joscelyn-Regular
junction: Junction
junicode: JunicodeTwoBeta-Regular
jura: Jura-Regular
karla: Karla-Regular
kaushanscript: KaushanScript-Regular
klaudia-berenika: Berenika Klaudia
kristi: Kristi
lato: Lato-Regular
le-murmure: le-murmure
league-mono: LeagueMono-Regular
league-spartan: LeagueSpartan-Regular
leckerli-one: LeckerliOne-Regular
levien-museum: MuseumFourteen
levien-typoscript: TypoScript
liberation2: LiberationMono-Regular LiberationSans-Regular LiberationSerif-Regular
lindenhill: LindenHill
linex: Jara Quercus
linuxlibertine: LinBiolinum_R LinLibertine_R
lobster: lobster
lobstertwo: LobsterTwo-Regular
manrope: Manrope-Regular
noto-core: NotoSans-Regular NotoSerif-Regular
ocr-a: OCRA
ocr-b: OCRB
okolaks: okolaksRegular
oldstandard: OldStandard-Regular
open-sans: OpenSans-Regular
opendin: OSP-DIN
opendyslexic: OpenDyslexic-Regular
osifont: osifont
oxygen: Oxygen-Sans
play: Play-Regular
prociono: Prociono
quattrocento: Quattrocento-Regular
quicksand: Quicksand-Regular
radisnoir: RadisSans-medium
roboto-slab: RobotoSlab-Regular
roboto-unhinted: Roboto-Regular RobotoCondensed-Regular
routed-gothic: routed-gothic
rufscript: Rufscript010
sil-andika: Andika-Regular
sil-charis: CharisSIL-Regular
sil-gentiumplus: GentiumPlus-Regular
sjfonts: Delphine SteveHand
solide-mirage: SolideMirageEtroit
sora: Sora-Regular
staypuft: StayPuft
stix: STIXGeneral-Regular
texgyre: texgyreadventor-regular texgyrebonum-regular texgyrepagella-regular texgyreschola-regular
tiresias: tiresias_infofont
tlwg-purisa-ttf: Purisa
tomsontalks: TomsonTalks
tuffy: Tuffy
ubuntu-title: Ubuntu-Title
urw-base35: NimbusMonoPS-Regular NimbusRoman-Regular NimbusSans-Regular
vollkorn: Vollkorn-Regular
yanone-kaffeesatz: YanoneKaffeesatz-Regular
"""


def find(package: Package, stem: str) -> Path | None:
    """The OpenType or TrueType file of a name (with _ for a space) in a package."""
    for path in sorted(package.folder.rglob("*")):
        if path.suffix.lower() in (".otf", ".ttf") and path.stem.replace(" ", "_") == stem and path.is_file():
            return path
    return None


def extent(font: ImageFont.FreeTypeFont, text: str) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the ink of a text, in pixels from where it starts."""
    left, top, right, bottom = font.getbbox(text)
    return int(left), int(top), int(right), int(bottom)


def letters(path: Path) -> np.ndarray | None:
    """The letters of a typeface, each scaled to the same box: (52, BOX, BOX) of 0 to 1; None where one is missing."""
    font = ImageFont.truetype(str(path), 64)
    missing = bytes(font.getmask("\uffff"))
    drawn = []
    for letter in LETTERS:
        left, top, right, bottom = extent(font, letter)
        if right <= left or bottom <= top or bytes(font.getmask(letter)) == missing:
            return None
        image = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(image).text((-left, -top), letter, font=font, fill=255)
        drawn.append(np.asarray(image.resize((BOX, BOX), Image.Resampling.BOX), dtype=np.float32) / 255)
    return np.stack(drawn)


def at_height(path: Path, pixels: int) -> ImageFont.FreeTypeFont:
    """The typeface at the size where an x is `pixels` high."""
    _, top, _, bottom = extent(ImageFont.truetype(str(path), 200), "x")
    return ImageFont.truetype(str(path), max(round(200 * pixels / (bottom - top)), 4))


def words_of_splits(words: list[str], rng: random.Random) -> dict[str, list[str]]:
    """The words, shuffled and shared out: no word in two splits."""
    words = sorted(set(words))
    rng.shuffle(words)
    ends = np.cumsum([round(SHARES[split] * len(words)) for split in SPLITS])
    return {
        split: words[end - round(SHARES[split] * len(words)) : end] for split, end in zip(SPLITS, ends, strict=True)
    }


def draw(font: ImageFont.FreeTypeFont, height: int, words: list[str], size: int, rng: random.Random) -> np.ndarray:
    """An image (size, size) of lines of random words that run over its borders; the x is `height` pixels high here."""
    side = round(size * 1.2)  # room to turn
    page = Image.new("L", (side, side))
    pen = ImageDraw.Draw(page)
    y = rng.uniform(-1.5, 0.5) * height
    while y < side:
        line = ""
        while font.getlength(line) < 1.5 * side:
            picked = rng.choices(words, k=4)
            line += "".join((word.capitalize() if rng.random() < 0.3 else word) + " " for word in picked)
        pen.text((-rng.uniform(0, side / 2), y), line, font=font, fill=255)
        y += height * rng.uniform(2.4, 2.9)
    page = page.rotate(rng.uniform(-5, 5), Image.Resampling.BICUBIC)
    edge = (side - size) // 2
    ink = np.asarray(page.crop((edge, edge, edge + size, edge + size)), dtype=np.float32) / 255
    dark, light = rng.uniform(0, 90), rng.uniform(165, 255)
    return (light + (dark - light) * ink).round().astype(np.uint8)


def typefaces(packages: dict[str, Package]) -> tuple[dict[str, Path], dict[str, str]]:
    """(files by name of the class, reasons for the typefaces left out)."""
    files, left_out, shapes = {}, {}, {}
    for line in TYPEFACES.strip().split("\n"):
        package, _, stems = line.partition(": ")
        for stem in stems.split():
            path = find(packages[package], stem)
            drawn = letters(path) if path else None
            if path is None or drawn is None:
                left_out[stem] = "not in the package" if path is None else "lacks a letter"
                continue
            like = next((name for name, other in shapes.items() if alike(other, drawn) > ALIKE), None)
            if like:
                left_out[stem] = f"like {like}"
            else:
                files[stem], shapes[stem] = path, drawn
    return files, left_out


def main(words: list[str]) -> int:
    """Make the task."""
    options = parser(__doc__)
    options.add_argument("--size", type=positive, default=SIZE, help=f"pixels of an image (default {SIZE})")
    for split, number in (("train", 16), ("val", 8), ("test", 16)):
        options.add_argument(f"--{split}", type=positive, default=number, help=f"images a class (default {number})")
    options.add_argument("--classes", type=positive, help="use only the first so many typefaces")
    given = parse(options, words)
    names = [word.removesuffix(":") for word in TYPEFACES.split() if word.endswith(":")]
    packages = {name: debian(f"fonts-{name}", given.cache) for name in names}
    dictionary = debian("wamerican", given.cache)
    listed = (dictionary.folder / "usr/share/dict/american-english").read_text().split()
    listed = [word for word in listed if word.isascii() and word.isalpha() and word.islower() and 4 <= len(word) <= 9]
    files, left_out = typefaces(packages)
    chosen = list(files)[: given.classes]
    if given.classes and len(chosen) < given.classes:
        raise DataError(f"--classes {given.classes}: only {len(chosen)} typefaces pass the checks.")
    with new_task(given.out) as root:
        rng = random.Random(given.seed)
        vocabulary = words_of_splits(listed, rng)
        for name in chosen:
            for split in SPLITS:
                heights = [round(height * given.size / SIZE) for height in X_HEIGHTS[split]]
                faces = [at_height(files[name], height) for height in heights]
                for number in range(getattr(given, split)):
                    turn = number % len(heights)
                    image = draw(faces[turn], heights[turn], vocabulary[split], given.size, rng)
                    save(image, root, split, name, number)
        checks = check(root, {split: getattr(given, split) for split in SPLITS})
        write_record(
            root,
            given,
            [*(package.record() for package in packages.values()), dictionary.record("public domain (SCOWL)")],
            checks,
            words={split: len(vocabulary[split]) for split in SPLITS},
            words_in_two_splits=sum(map(len, vocabulary.values())) - len(set().union(*vocabulary.values())),
            left_out=left_out,
        )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
