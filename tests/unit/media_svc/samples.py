"""Small files of every type: enough of each for its type to be known."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib


def png(width: int = 2, height: int = 2, filler: bytes = b"") -> bytes:
    """A whole PNG; `filler` is carried in a private chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + b"\x7f\x20\x40" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows)) + (chunk(b"prVt", filler) if filler else b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def mp4(*handlers: bytes, brand: bytes = b"mp42") -> bytes:
    tracks = b"".join(
        box(b"trak", box(b"mdia", box(b"hdlr", bytes(8) + handler + bytes(12)))) for handler in handlers
    )
    return box(b"ftyp", brand + bytes(4) + b"isom") + box(b"mdat", b"\1" * 100) + box(b"moov", tracks)


def office(*members: str) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for member in members:
            archive.writestr(member, "<x/>")
    return whole.getvalue()


def ogg(codec: bytes) -> bytes:
    return b"OggS\0\2" + bytes(20) + b"\1" + bytes([len(codec)]) + codec + bytes(20)


def heif(brand: bytes) -> bytes:
    return box(b"ftyp", b"mif1" + bytes(4) + b"mif1" + brand) + box(b"meta", bytes(20))


def webm(codec: bytes) -> bytes:
    return b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" + bytes(8) + codec + bytes(20)


DOCX = office("[Content_Types].xml", "word/document.xml")

TAKEN = {
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
    "png": (png(), "image/png"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(20), "image/webp"),
    "gif": (b"GIF89a" + bytes(20), "image/gif"),
    "heic": (heif(b"heic"), "image/heic"),
    "avif": (heif(b"avif"), "image/avif"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(20), "audio/wav"),
    "mp3 with tags": (b"ID3\4\0\0" + bytes(20), "audio/mpeg"),
    "mp3 frame": (b"\xff\xfb\x90\x00" + bytes(20), "audio/mpeg"),
    "aac": (b"\xff\xf1\x50\x80" + bytes(20), "audio/aac"),
    "m4a": (mp4(b"soun", brand=b"M4A "), "audio/mp4"),
    "m4a of Android": (mp4(b"soun"), "audio/mp4"),
    "opus": (ogg(b"OpusHead"), "audio/ogg"),
    "vorbis": (ogg(b"\1vorbis"), "audio/ogg"),
    "webm": (webm(b"A_OPUS"), "audio/webm"),
    "flac": (b"fLaC\0" + bytes(40), "audio/flac"),
    "pdf": (b"%PDF-1.7\n1 0 obj", "application/pdf"),
    "docx": (DOCX, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    "pptx": (
        office("[Content_Types].xml", "ppt/presentation.xml"),
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    "xlsx": (
        office("[Content_Types].xml", "xl/workbook.xml"),
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    "html": (b"\n<!-- hi -->\n<!DOCTYPE html><p>", "text/html"),
    "xhtml": (b'<?xml version="1.0"?>\n<html xmlns="x">', "text/html"),
    "text": ("naïve ✓\n".encode(), "text/plain"),
}

REFUSED = {
    "program": b"\x7fELF\2\1\1" + bytes(50),
    "windows program": b"MZ\x90\0" + bytes(50),
    "zip": office("a.txt"),
    "two office types in one": office("[Content_Types].xml", "word/document.xml", "xl/workbook.xml"),
    "zip without directory": b"PK\3\4" + bytes(100),
    "zip with a directory beyond its end": DOCX[:-6] + b"\xff\xff\xff\x7f" + DOCX[-2:],
    "film": mp4(b"vide", b"soun"),
    "film of one track": mp4(b"vide"),
    "mp4 whose boxes lead outside": box(b"ftyp", b"mp42" + bytes(4)) + b"\xff\xff\xff\xffmoov",
    "mp4 with an empty box": box(b"ftyp", b"mp42" + bytes(4)) + bytes(64),
    "webm film": webm(b"V_VP9\0A_OPUS"),
    "matroska": b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska" + b"A_OPUS",
    "ogg film": ogg(b"\x80theora"),
    "other RIFF": b"RIFF\x24\0\0\0AVI LIST",
    "text with a zero": b"hello\0world",
    "latin-1": "naïve".encode("latin-1"),
    "cut UTF-8": "✓".encode()[:2],
    "gzip": b"\x1f\x8b\x08" + bytes(20),
    "bitmap": b"BM" + bytes(60),
    "old word": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60),
}
