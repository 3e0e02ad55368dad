"""Rows of the catalogue in the layout of VOC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from almining.data.pool import Pool
from almining.data.readers import VOC_CLASSES
from tests.data.defects import (
    DOG,
    FIRST,
    HEIGHT,
    IDS,
    SIZE,
    WIDTH,
    Row,
    boxes,
    is_complete,
    link,
    mean,
    obj,
    save,
    voc,
    xml,
)

GOOD, BAD = IDS
CAT = "object 2 (cat)"


def both(*wanted: list[float]) -> Callable[[Pool], bool]:
    """Tell whether both images are complete and the second has just these boxes."""
    return lambda pool: (
        pool.classes == VOC_CLASSES
        and is_complete(pool, GOOD, [0, 0, WIDTH, HEIGHT])
        and is_complete(pool, BAD, *wanted)
    )


WHOLE = both(FIRST)


def second(*corners: object) -> str:
    """Return an annotation of a good dog and this cat."""
    return xml(DOG, obj("cat", *corners))


def only_good(pool: Pool) -> bool:
    """Tell whether the first image alone is left, whole."""
    return pool.ids == (GOOD,) and is_complete(pool, GOOD, [0, 0, WIDTH, HEIGHT])


def moved(name: str, image: str | None = None) -> Callable[[Path], None]:
    """Give the second image another name."""

    def files(root: Path) -> None:
        for folder, old, new in (
            ("Annotations", "bad.xml", f"{name}.xml"),
            ("JPEGImages", "bad.jpg", image or f"{name}.jpg"),
        ):
            path = root / folder / new
            path.parent.mkdir(parents=True, exist_ok=True)
            (root / folder / old).rename(path)

    return files


def named(name: str) -> Callable[[Pool], bool]:
    """Tell whether the second image goes by this name and is whole."""
    image_id = f"JPEGImages/{name}"
    return lambda pool: pool.ids == (GOOD, image_id) and is_complete(pool, image_id, FIRST)


def filename(text: str) -> str:
    """Return the good annotation with a file name."""
    return xml(DOG, filename=f"<filename>{text}</filename>")


def equal_names(root: Path) -> None:
    """Put the second image, white, where its name equals the first's."""
    moved("deep/good")(root)
    save(root / "JPEGImages" / "deep" / "good.jpg", color="white")


def declared(encoding: str, name: str = "caf\u00e9") -> bytes:
    """Return an annotation that declares its encoding."""
    return f'<?xml version="1.0" encoding="{encoding}"?>{xml(obj(name, 3, 3, 10, 10))}'.encode(
        encoding
    )


def reads(name: str) -> Callable[[Pool], bool]:
    """Tell whether the second image has one box of this class."""
    return lambda pool: (
        is_complete(pool, BAD, FIRST) and pool.classes[int(pool.target(BAD).labels[0]) - 1] == name
    )


TWO_BOXES = DOG.replace("</object>", "<bndbox><xmin>1</xmin></bndbox></object>")
TWO_CORNERS = DOG.replace("<ymin>3</ymin>", "<ymin>3</ymin><ymin>4</ymin>")
TWO_NAMES = DOG.replace("<name>dog</name>", "<name>dog</name><name>cat</name>")
TWO_MARKS = obj("dog", 3, 3, 10, 10, difficult="<difficult>0</difficult><difficult>1</difficult>")
TWO_SIZES = xml(DOG, size=SIZE + SIZE)
NO_BOX = "<object><name>cat</name></object>"
NO_CORNER = DOG.replace("<ymax>10</ymax>", "")
HARD = obj("dog", 3, 3, 10, 10, difficult="<difficult>1</difficult>")
PLAIN = obj("dog", 3, 3, 10, 10, difficult="")
PART = "<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin></bndbox></part></object>"
POSED = DOG.replace("</object>", "<pose>Left</pose><truncated>1</truncated></object>")
ENTITY = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + xml(obj("&x;", 3, 3, 10, 10))
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + xml(obj("&b;", 3, 3, 10, 10))
TYPED = '<!DOCTYPE annotation SYSTEM "voc.dtd">' + xml(DOG)
LATIN = xml(obj("caf\u00e9", 3, 3, 10, 10)).encode("latin-1")
GBK = xml(obj("狗熊", 3, 3, 10, 10)).encode("gbk")
ZERO = SIZE.replace(str(WIDTH), "0")

ROWS: list[Row] = [
    voc(
        *(1, "zero width and height", "R", second(7, 7, 7, 7)),
        words=("bad.xml", CAT, "bndbox", "stray click"),
        holds=WHOLE,
    ),
    voc(3, "xmax before xmin", "E", second(22, 5, 10, 9), words=("bad.xml", CAT, "bndbox", "22")),
    voc(
        3, "ymax before ymin", "E", second(5, 9, 10, 8), words=("bad.xml", CAT, "bndbox", "ymin=9")
    ),
    voc(
        *(3, "xmax before xmin, asked to swap", "R", second(22, 5, 10, 9)),
        options={"repair": ["swap"]},
        words=("bad.xml", CAT, "bndbox", "xmin=22"),
        holds=both(FIRST, [9, 4, 22, 9]),
    ),
    voc(
        *(3, "ymax just before ymin, asked to swap", "R", second(5, 9, 10, 8)),
        options={"repair": ["swap"]},
        words=(CAT, "ymin=9"),
        holds=both(FIRST, [4, 7, 10, 9]),
    ),
    voc(4, "xmax equals xmin", "N", second(5, 5, 5, 9), holds=both(FIRST, [4, 4, 5, 9])),
    voc(
        *(5, "partly outside", "R", second(31, 21, 60, 25)),
        words=("bad.xml", CAT, "bndbox", "clipped", "40 x 30"),
        holds=both(FIRST, [30, 20, 40, 25]),
    ),
    voc(6, "outside", "E", second(50, 5, 60, 9), words=("bad.xml", CAT, "bndbox", "50", "outside")),
    voc(7, "NaN", "E", second("nan", 5, 10, 9), words=("bad.xml", CAT, "bndbox", "nan")),
    voc(7, "infinite", "E", second(5, 5, "inf", 9), words=("bad.xml", CAT, "bndbox", "inf")),
    voc(8, "no bndbox", "E", xml(DOG, NO_BOX), words=("bad.xml", CAT, "bndbox", "0 boxes")),
    voc(8, "no ymax", "E", xml(DOG, NO_CORNER), words=("bad.xml", "object 2 (dog)", "ymax=")),
    voc(8, "text", "E", second("five", 5, 10, 9), words=("bad.xml", CAT, "bndbox", "five")),
    voc(8, "no name", "E", xml(DOG, obj("", 5, 5, 9, 9)), words=("bad.xml", "object 2", "name")),
    voc(
        *(10, "normalised", "E", second(0.1, 0.2, 0.5, 0.6)),
        words=("bad.xml", CAT, "bndbox", "normalised", "0.1"),
    ),
    voc(11, "counts from 1", "N", holds=WHOLE),
    voc(
        *(12, "counts from 0", "E", second(0, 5, 10, 9)),
        words=("bad.xml", CAT, "bndbox", "xmin=0", "voc_origin=0"),
    ),
    voc(
        *(12, "counts from 0, declared", "N", second(0, 5, 39, 29)),
        options={"voc_origin": 0},
        holds=lambda p: boxes(p, BAD) == [[3, 3, 11, 11], [0, 5, 40, 30]],
        files=lambda root: (root / "Annotations/good.xml").write_text(
            xml(obj("cat", 0, 0, 39, 29))
        ),
    ),
    voc(13, "fractions", "N", second(5.5, "6.25", 10, 9), holds=both(FIRST, [4.5, 5.25, 10, 9])),
    voc(14, "box of a part", "N", xml(DOG.replace("</object>", PART)), holds=WHOLE),
    voc(15, "two boxes", "E", xml(TWO_BOXES), words=("bad.xml", "object 1 (dog)", "2 boxes")),
    voc(15, "corner twice", "E", xml(TWO_CORNERS), words=("object 1 (dog)", "ymin", "3, 4")),
    voc(15, "name twice", "E", xml(TWO_NAMES), words=("object 1", "name", "dog, cat")),
    voc(15, "difficult twice", "E", xml(TWO_MARKS), words=("object 1", "difficult", "0, 1")),
    voc(15, "size twice", "E", TWO_SIZES, words=("bad.xml", "image bad", "size = 2 times")),
    voc(
        *(15, "file name twice", "E"),
        bad=xml(DOG, filename="<filename>bad.jpg</filename><filename>good.jpg</filename>"),
        words=("bad.xml", "image bad", "filename", "bad.jpg, good.jpg"),
    ),
    voc(16, "no difficult, no pose", "N", xml(PLAIN), holds=WHOLE),
    voc(
        *(
            16,
            "difficult is a word",
            "E",
            xml(DOG, obj("cat", 5, 5, 9, 9, difficult="<difficult>yes</difficult>")),
        ),
        words=("bad.xml", CAT, "difficult", "yes", "0 or 1"),
    ),
    voc(17, "no size", "R", xml(DOG, size=""), words=("image bad", "size", "40 x 30"), holds=WHOLE),
    voc(
        17, "zero size", "R", xml(DOG, size=ZERO), words=("size", "width=0", "40 x 30"), holds=WHOLE
    ),
    voc(
        *(18, "file name without suffix", "R", filename("bad")),
        words=("bad.xml", "filename", "= bad", "bad.jpg"),
        holds=WHOLE,
    ),
    voc(
        18,
        "wrong file name",
        "R",
        filename("other.jpg"),
        words=("other.jpg", "bad.jpg"),
        holds=WHOLE,
    ),
    voc(
        *(18, "file name of another image", "E", filename("good.jpg")),
        words=("bad.xml", "image bad", "filename", "good.jpg"),
    ),
    voc(
        *(18, "two files of the name", "E"),
        files=lambda root: save(root / "JPEGImages/bad.png"),
        words=("bad.xml", "image bad", "filename", "bad.jpg, bad.png"),
    ),
    voc(
        *(18, "two files, one named", "N", filename("bad.jpg")),
        files=lambda root: save(root / "JPEGImages/bad.png", size=(9, 9)),
        holds=WHOLE,
    ),
    voc(19, "PNG", "N", image=".png", holds=WHOLE),
    voc(19, "suffix .JPG", "N", files=moved("bad", "bad.JPG"), holds=WHOLE),
    voc(19, "suffix .JPEG", "N", image=".JPEG", holds=WHOLE),
    voc(
        *(20, "dots, blanks, brackets", "N"),
        files=moved("a.b (1) [x].c"),
        listing="good\na.b (1) [x].c\n",
        holds=named("a.b (1) [x].c"),
    ),
    voc(
        *(21, "not ASCII", "N"),
        files=moved("зебра/猫é"),
        listing="good\nзебра/猫é\n",
        holds=named("зебра/猫é"),
    ),
    voc(
        *(22, "backslash in the list", "R"),
        files=moved("deep/bad"),
        listing="good\ndeep\\bad\n",
        words=("train.txt", "deep\\bad", "deep/bad"),
        holds=named("deep/bad"),
    ),
    voc(
        *(22, "backslash in the file name", "R", filename("photos\\bad.jpg")),
        words=("bad.xml", "filename", "photos\\bad.jpg"),
        holds=WHOLE,
    ),
    voc(
        *(23, "equal names in two folders", "N"),
        files=equal_names,
        listing="good\ndeep/good\n",
        holds=lambda p: named("deep/good")(p) and mean(p, p.ids[1]) == [1, 1, 1],
    ),
    voc(24, "link inside", "N", files=link("JPEGImages/bad.jpg", "good.jpg"), holds=WHOLE),
    voc(
        *(24, "broken link", "Q"),
        files=link("JPEGImages/bad.jpg", "gone.jpg"),
        words=("bad.xml", "image bad", "bad.jpg", "broken", "points to gone.jpg"),
        holds=only_good,
    ),
    voc(
        *(24, "broken link out of the root", "Q"),
        files=link("JPEGImages/bad.jpg", "../../gone.jpg"),
        words=("bad.xml", "image bad", "broken", "points to ../../gone.jpg"),
        holds=only_good,
    ),
    voc(
        *(24, "link to itself", "Q"),
        files=link("JPEGImages/bad.jpg", "bad.jpg"),
        words=("bad.xml", "image bad", "leads back to itself"),
        holds=only_good,
    ),
    voc(
        *(24, "broken link to an annotation", "Q"),
        files=link("Annotations/bad.xml", "gone.xml"),
        words=("image bad", "annotation", "broken", "points to gone.xml"),
        holds=only_good,
    ),
    voc(
        *(24, "link out of the root", "E"),
        files=link("JPEGImages/bad.jpg", "/etc/hostname"),
        words=("bad.xml", "image bad", "bad.jpg", "leaves"),
    ),
    voc(
        *(24, "annotation linked out of the root", "E"),
        files=link("Annotations/bad.xml", "/etc/hostname"),
        words=("image bad", "bad.xml", "leaves"),
    ),
    voc(25, "list goes up", "E", listing="good\n../bad\n", words=("train.txt", "../bad", "leaves")),
    voc(25, "list is absolute", "E", listing="good\n/etc/bad\n", words=("/etc/bad", "leaves")),
    voc(25, "list has a drive", "E", listing="good\nC:\\bad\n", words=("C:\\bad", "leaves")),
    voc(
        *(25, "file name goes up", "E", filename("..\\..\\bad.jpg")),
        words=("bad.xml", "image bad", "filename", "..\\..\\bad.jpg", "leaves"),
    ),
    voc(
        *(25, "file name has a drive", "E", filename("C:\\bad.jpg")),
        words=("bad.xml", "image bad", "filename", "C:\\bad.jpg", "leaves"),
    ),
    voc(
        26, "image absent", "Q", image="", words=("image bad", "bad.jpg", "absent"), holds=only_good
    ),
    voc(
        *(53, "list is no text", "E"),
        listing=f"good\na\0b\n{'x' * 300}\nbad\n",
        words=("train.txt", "line 2", "name = 'a\\x00b'", "no file can have this name"),
        findings=2,
        lenient=lambda p: is_complete(p, GOOD, [0, 0, WIDTH, HEIGHT]) and len(p) == 2,
    ),
    voc(
        *(27, "listed twice", "E"),
        listing="good\nbad\nbad\n",
        words=("train.txt", "image bad", "2 times"),
        lenient=lambda p: is_complete(p, GOOD, [0, 0, WIDTH, HEIGHT]) and len(p) == 2,
    ),
    voc(
        *(27, "listed twice, once as ./", "E"),
        listing="good\nbad\n./bad\n",
        words=("train.txt", "image bad", "2 times"),
        lenient=lambda p: is_complete(p, GOOD, [0, 0, WIDTH, HEIGHT]) and len(p) == 2,
    ),
    voc(
        *(32, "class that is not given", "E", xml(DOG, obj("yak", 5, 5, 9, 9))),
        options={"classes": ["cat", "dog"]},
        words=("bad.xml", "object 2 (yak)", "name", "cat, dog"),
    ),
    voc(
        *(33, "names differ in case", "E", xml(DOG, obj("Cat", 5, 5, 9, 9))),
        words=("'Cat' and 'cat'", "case"),
        fatal=True,
    ),
    voc(33, "blanks around a name", "warn", xml(DOG.replace("dog", " dog ")), holds=WHOLE),
    voc(
        36, "difficult", "N", xml(HARD), holds=lambda p: WHOLE(p) and bool(p.target(BAD).ignore[0])
    ),
    voc(
        38,
        "no object",
        "N",
        xml(),
        holds=lambda p: both()(p) and p.target(BAD).boxes.shape == (0, 4),
    ),
    voc(
        *(39, "no annotation", "warn", None),
        words=("train.txt", "image bad", "bad.xml", "unlabelled"),
        holds=lambda p: [p.target(i).state for i in p.ids] == ["complete", "unlabelled"],
    ),
    voc(
        *(40, "partial labels, declared", "N", xml()),
        options={"exhaustive": False},
        holds=lambda p: [p.target(i).state for i in p.ids] == ["sparse", "unlabelled"],
    ),
    voc(
        *(41, "duplicate box", "R", xml(DOG, DOG)),
        words=("bad.xml", "object 2 (dog)", "duplicate"),
        holds=WHOLE,
    ),
    voc(
        *(
            42,
            "width and height swapped",
            "E",
            xml(DOG, size=SIZE.replace("40", "x").replace("30", "40").replace("x", "30")),
        ),
        words=("bad.jpg", "40 x 30", "30 x 40", "swapped"),
        lenient=None,
        alone=True,
    ),
    voc(52, "byte order mark", "N", b"\xef\xbb\xbf" + xml(DOG).encode(), holds=WHOLE),
    voc(52, "latin-1", "E", LATIN, words=("bad.xml", "encoding", "UTF-8", "byte", "0xe9")),
    voc(52, "GBK", "E", GBK, words=("bad.xml", "encoding", "UTF-8", "byte")),
    voc(
        *(52, "GBK, declared", "E", declared("gbk", "狗熊")),
        words=("bad.xml", "encoding", "gbk", "save the file as UTF-8"),
    ),
    voc(52, "latin-1, declared", "N", declared("iso-8859-1"), holds=reads("caf\u00e9")),
    voc(52, "UTF-16, declared", "N", declared("utf-16"), holds=reads("caf\u00e9")),
    voc(
        *(52, "list in latin-1", "E"),
        listing="good\ncaf\u00e9\n".encode("latin-1"),
        words=("train.txt", "encoding", "UTF-8", "byte 8 = 0xe9"),
        fatal=True,
    ),
    voc(53, "cut short", "E", xml(DOG)[:-30], words=("bad.xml", "line 1", "column")),
    voc(53, "another root element", "E", "<html/>", words=("bad.xml", "root element", "html")),
    voc(55, "& in a name", "E", "<annotation>\n<a>\n&</a>", words=("bad.xml", "line 3", "&amp;")),
    voc(55, "empty file", "E", "", words=("bad.xml", "line 1", "no element found")),
    voc(56, "external entity", "E", ENTITY, words=("bad.xml", "entities are refused")),
    voc(56, "entity bomb", "E", BOMB, words=("bad.xml", "entities are refused")),
    voc(56, "document type", "E", TYPED, words=("bad.xml", "document types")),
    voc(57, "empty split", "E", listing="\n", words=("train.txt", "empty"), findings=1, fatal=True),
    voc(
        57,
        "no such split",
        "E",
        files=lambda root: (root / "ImageSets/Main/train.txt").rename(
            root / "ImageSets/Main/val.txt"
        ),
        words=("split", "train", "there are: val"),
        fatal=True,
    ),
    voc(
        57, "no image left", "E", listing="gone\n", words=("images", "no image is left"), fatal=True
    ),
]


CLEAN: list[Row] = [
    voc(0, "VOC, plain", "N", holds=WHOLE),
    voc(
        *(0, "VOC, parts and fractions", "N"),
        bad=xml(DOG.replace("</object>", PART), obj("cat", 5.5, 6.25, 10, 9)),
        holds=both(FIRST, [4.5, 5.25, 10, 9]),
    ),
    voc(0, "VOC, PNG", "N", image=".png", holds=WHOLE),
    voc(0, "VOC, suffix .JPEG", "N", image=".JPEG", holds=WHOLE),
    voc(
        0,
        "VOC, difficult and posed",
        "N",
        xml(HARD, POSED.replace("3", "4")),
        holds=lambda p: p.target(BAD).ignore.tolist() == [True, False],
    ),
    voc(0, "VOC, file names and folders", "N", filename("bad.jpg"), holds=WHOLE),
    voc(0, "VOC, no difficult", "N", xml(PLAIN), holds=WHOLE),
    voc(
        *(0, "VOC, names of its own", "N", xml(obj("chien méchant", 3, 3, 10, 10))),
        holds=reads("chien méchant"),
    ),
]
