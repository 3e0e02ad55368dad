"""Annotation files as Python objects: JSON and XML, of which nothing is followed or expanded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from almining.data.report import Report

Element = Any  # of defusedxml, which names no type of its own
XML_BYTES = 16 * 2**20


class _RepeatedKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RepeatedKeyError(twice)
    return found


def read_json(path: Path, report: Report) -> Any:
    """Return the content of a JSON file; None, with an error in the report, when it cannot be read.

    A key that stands twice in one object is an error: the parser would keep the last and forget the
    rest.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except OSError as error:
        report.fatal(path, "file", "path", str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        value = f"byte {error.start} = 0x{error.object[error.start]:02x}"
        report.fatal(path, "file", "encoding", value, "not UTF-8; save the file as UTF-8")
    except json.JSONDecodeError as error:
        value = error.doc[error.pos : error.pos + 40] or "end of file"
        where = f"line {error.lineno}, column {error.colno}"
        report.fatal(
            path, where, "JSON", value, f"{error.msg}; is the file cut short? Fetch it again"
        )
    except _RepeatedKeyError as error:
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
        root: Element = fromstring(path.read_bytes(), forbid_dtd=True)
        return root
    except OSError as error:
        report.error(path, "file", "path", str(path), f"cannot be read: {error.strerror}")
    except ParseError as error:
        line, column = error.position
        remedy = "not well-formed; an & in text is written &amp; and no file is empty"
        report.error(path, f"line {line}, column {column}", "XML", str(error), remedy)
    except DefusedXmlException as error:
        remedy = "document types and entities are refused; remove them"
        report.error(path, "file", "XML", type(error).__name__, remedy)
    except (LookupError, RecursionError, ValueError) as error:
        report.error(path, "file", "XML", str(error), "save the file as UTF-8")
    return None
