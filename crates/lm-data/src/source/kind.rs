//! Files whose name promises text and whose first bytes are something else.

/// What such a file is, and what makes text of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub name: &'static str,
    pub remedy: &'static str,
}

/// Bytes from the start of a file that tell.
pub(super) const START: u64 = 512;

/// UTF-8's byte order mark.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const UTF_16: Kind = Kind { name: "UTF-16 text", remedy: "convert it: iconv -f UTF-16 -t UTF-8" };
const UTF_32: Kind = Kind { name: "UTF-32 text", remedy: "convert it: iconv -f UTF-32 -t UTF-8" };

const fn kind(name: &'static str, remedy: &'static str) -> Kind {
    Kind { name, remedy }
}

const TO_JSONL: &str = "write its text as .jsonl, one {\"text\": …} per line";
const PLAIN_TEXT: &str = "save it as plain text";

/// First bytes and what they mean; of two that fit, the first.
const KINDS: &[(&[u8], Kind)] = &[
    (b"\xff\xfe\0\0", UTF_32),
    (b"\0\0\xfe\xff", UTF_32),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"\x1f\x8b", kind("compressed with gzip", "decompress it: gzip -d")),
    (b"\x28\xb5\x2f\xfd", kind("compressed with zstd", "decompress it: zstd -d")),
    (b"\xfd7zXZ\0", kind("compressed with xz", "decompress it: xz -d")),
    (b"\x04\x22\x4d\x18", kind("compressed with lz4", "decompress it: lz4 -d")),
    (b"\x1f\x9d", kind("compressed with compress", "decompress it: gzip -d")),
    (b"7z\xbc\xaf\x27\x1c", kind("a 7z archive", "unpack it: 7z x")),
    (b"Rar!\x1a\x07", kind("a rar archive", "unpack it: unrar x")),
    (b"PK\x03\x04", kind("a zip archive (or an office document)", "unpack it: unzip; or save it as plain text")),
    (b"PK\x05\x06", kind("an empty zip archive", "name another file")),
    (b"PARE", kind("an encrypted Parquet file", TO_JSONL)),
    (b"FEA1", kind("a Feather file", TO_JSONL)),
    (b"Obj\x01", kind("an Avro file", TO_JSONL)),
    (b"\x93NUMPY", kind("a NumPy array", TO_JSONL)),
    (b"\x89HDF\r\n\x1a\n", kind("an HDF5 file", TO_JSONL)),
    (b"SQLite format 3\0", kind("an SQLite database", TO_JSONL)),
    (b"%PDF-", kind("a PDF document", "convert it: pdftotext")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", kind("an office document", PLAIN_TEXT)),
    (b"{\\rtf", kind("an RTF document", PLAIN_TEXT)),
    (b"\x7fELF", kind("a program", "name another file")),
    (b"\x89PNG\r\n\x1a\n", kind("a picture", "name another file")),
    (b"\xff\xd8\xff", kind("a picture", "name another file")),
];

/// What the file that begins so is, if it is no text in UTF-8.
pub(super) fn of(start: &[u8]) -> Option<Kind> {
    let found = KINDS.iter().find(|(bytes, _)| start.starts_with(bytes)).map(|(_, kind)| *kind);
    found.or_else(|| match start {
        [0x80, 2..=5, ..] => Some(kind("a Python pickle", TO_JSONL)),
        // After the level come six bytes of pi, or of its square root where the content is empty.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => {
            Some(kind("compressed with bzip2", "decompress it: bzip2 -d"))
        }
        // POSIX's mark or GNU's: the letters alone stand in a custard too.
        _ if [&b"ustar\0"[..], b"ustar  \0"]
            .iter()
            .any(|mark| start.get(257..).is_some_and(|at| at.starts_with(mark))) =>
        {
            Some(kind("a tar archive", "unpack it: tar -xf"))
        }
        _ => wide(start),
    })
}

/// UTF-16 and UTF-32 without a mark: of Latin letters, every second or three of every four bytes are zero.
fn wide(start: &[u8]) -> Option<Kind> {
    let sample = &start[..start.len().min(64) / 4 * 4];
    let zeros = |place: usize| sample.iter().skip(place).step_by(4).all(|&byte| byte == 0);
    let letters = |place: usize| sample.iter().skip(place).step_by(4).all(|&byte| byte != 0);
    let pattern: [(bool, bool); 4] = std::array::from_fn(|place| (zeros(place), letters(place)));
    let zero = pattern.map(|(zero, _)| zero);
    let letter = pattern.map(|(_, letter)| letter);
    if sample.len() < 8 {
        None
    } else if (zero[1] && zero[3] && letter[0] && letter[2]) || (zero[0] && zero[2] && letter[1] && letter[3]) {
        Some(UTF_16)
    } else if (zero[1] && zero[2] && zero[3] && letter[0]) || (zero[0] && zero[1] && zero[2] && letter[3]) {
        Some(UTF_32)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(start: &[u8]) -> Option<&'static str> {
        of(start).map(|kind| kind.name)
    }

    #[test]
    fn text_is_text() {
        let texts = [
            "",
            "a",
            "BZhang won.",
            "PK said so",
            "PARIS",
            "%PD",
            "{\"text\": \"a\"}",
            "7zip",
            "\u{feff}a",
            "\0\0\0\0\0\0\0\0",
            "日本語の文章です。",
        ];
        for text in texts {
            assert_eq!(name(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        let utf_16 = |swap: bool| -> Vec<u8> {
            "Hello, world"
                .encode_utf16()
                .flat_map(|unit| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() })
                .collect()
        };
        let utf_32 = |swap: bool| -> Vec<u8> {
            "Hello"
                .chars()
                .flat_map(|c| if swap { u32::from(c).to_be_bytes() } else { u32::from(c).to_le_bytes() })
                .collect()
        };
        for swap in [false, true] {
            assert_eq!(name(&utf_16(swap)), Some("UTF-16 text"));
            assert_eq!(name(&utf_32(swap)), Some("UTF-32 text"));
        }
        assert_eq!(name(b"BZh91AY&SY"), Some("compressed with bzip2"));
        assert_eq!(name(b"\x80\x04\x95"), Some("a Python pickle"));
        for (mark, is) in
            [(&b"ustar\0"[..], Some("a tar archive")), (b"ustar  \0", Some("a tar archive")), (b"ustard", None)]
        {
            assert_eq!(name(&[&[b'a'; 257][..], mark].concat()), is);
        }
        for (bytes, kind) in KINDS {
            assert_eq!(name(bytes), Some(kind.name));
        }
    }
}
