"""Annotation files as Python objects: JSON and XML, of which nothing is followed or expanded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from almining.data.formats.report import Report, bad_byte

Element = Any  # of defusedxml, which names no type of its own
XML_BYTES = 16 * 2**20


class RepeatedKeyError(ValueError):
    """A key that stands twice in one JSON object."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object; raise for a key that stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RepeatedKeyError(twice)
    return found


def read_json(path: Path, report: Report) -> Any:
    """Return the content of a JSON file; None, with an error in the report, when it cannot be read.

    A key that stands twice in one object is an error: the parser would keep the last and forget the
    rest.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except OSError as error:
        report.fatal(path, "file", "path", str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        report.fatal(path, "file", "encoding", bad_byte(error), "not UTF-8; save the file as UTF-8")
    except json.JSONDecodeError as error:
        value = error.doc[error.pos : error.pos + 40] or "end of file"
        where = f"line {error.lineno}, column {error.colno}"
        report.fatal(
            path, where, "JSON", value, f"{error.msg}; is the file cut short? Fetch it again"
        )
    except RepeatedKeyError as error:
        remedy = "the key stands twice in one object, so one value would be lost; remove one"
        report.fatal(path, "file", "key", str(error), remedy)
    except (RecursionError, ValueError) as error:
        report.fatal(path, "file", "JSON", type(error).__name__, f"{error}; fetch the file again")
    return None


def read_xml(path: Path, report: Report) -> Element | None:
    """Return the root of an XML file; None, with an error in the report, when it cannot be read.

    Document types are refused, and with them every entity, local or external.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        size = path.stat().st_size
        if size > XML_BYTES:
            remedy = f"larger than {XML_BYTES} bytes, the limit for one image; split the file"
            report.error(path, "file", "size", size, remedy)
            return None
        content = path.read_bytes()
        root: Element = fromstring(content, forbid_dtd=True)
        return root
    except OSError as error:
        report.error(path, "file", "path", str(path), f"cannot be read: {error.strerror}")
    except ParseError as error:
        line, column = error.position
        where = f"line {line}, column {column}"
        wrong = _not_unicode(content)
        if wrong:
            remedy = "not UTF-8, and no other encoding is declared; save the file as UTF-8"
            report.error(path, where, "encoding", wrong, remedy)
        else:
            remedy = "correct the XML there, or fetch the file again; & in a text is written &amp;"
            if not content.strip():
                remedy = "the file is empty; fetch it again, or remove it"
            report.error(path, where, "XML", str(error).partition(":")[0], remedy)
    except DefusedXmlException:
        remedy = "document types and entities are refused, for they may name other files; remove it"
        report.error(path, "file", "XML", "<!DOCTYPE", remedy)
    except (LookupError, ValueError) as error:
        declared = _declared(content) or "no encoding declared"
        remedy = f"cannot be read ({error}); save the file as UTF-8"
        report.error(path, "file", "encoding", declared, remedy)
    return None


def _declared(content: bytes) -> str:
    found = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)""", content)
    return found[1].decode("ascii", "replace") if found else ""


def _not_unicode(content: bytes) -> str:
    """Return where a file that is to be UTF-8 is not, "" where it is or declares otherwise."""
    if _declared(content).lower() not in ("", "utf-8", "utf8"):
        return ""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"UTF-8, {bad_byte(error)}"
    return ""
