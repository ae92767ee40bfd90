//! Compressed files, archives and folders.

use super::*;

/// Two members each, as Python writes them (`compressed/make.py`).
const COMPRESSED: [(&str, &[u8]); 5] = [
    ("gz", include_bytes!("../../../tests/fixtures/compressed/two.txt.gz")),
    ("bz2", include_bytes!("../../../tests/fixtures/compressed/two.txt.bz2")),
    ("xz", include_bytes!("../../../tests/fixtures/compressed/two.txt.xz")),
    ("zst", include_bytes!("../../../tests/fixtures/compressed/two.txt.zst")),
    ("lz4", include_bytes!("../../../tests/fixtures/compressed/two.txt.lz4")),
];

fn compressed_rows() -> Vec<String> {
    (0..200).map(|row| format!("row {row} of the text")).collect()
}

/// The content tells, whatever the name says; every row can be gone on from.
#[test]
fn compressed_text_is_read_as_its_text() {
    let folder = Folder::new();
    for (extension, bytes) in COMPRESSED {
        assert_eq!(folder.read(&format!("a.txt.{extension}"), bytes, None), Ok(compressed_rows()), "{extension}");
        assert_eq!(folder.read("b.txt", bytes, None), Ok(compressed_rows()), "{extension}");
        assert_eq!(folder.read(&format!("c.csv.{extension}"), bytes, None), Ok(compressed_rows()[1..].to_vec()));
        assert_eq!(folder.read(&format!("plain.txt.{extension}"), "a\nb", None), owned(&["a", "b"]));
        let file = folder.write("a.txt", bytes);
        let [files] = TextFiles::resolve([&[file]], None, &RowOptions::default()).unwrap();
        let mut rows = files.rows();
        for row in 0..=200 {
            let rest: Vec<String> = files.rows_from(rows.next_position()).map(Result::unwrap).collect();
            assert_eq!(rest, compressed_rows()[row..], "{extension}");
            assert!(files.offset(rows.next_position()) <= files.bytes());
            rows.next();
        }
    }
}

#[test]
fn text_packed_with_the_longest_window_is_read() {
    assert_eq!(Folder::new().read("a.txt", fixture("long.txt.zst"), None), Ok(compressed_rows()));
}

/// By all methods of Python's `zipfile`.
#[test]
fn members_are_read_however_they_are_packed() {
    let folder = Folder::new();
    let bytes = fixture("methods.zip");
    assert_eq!(folder.read("a.zip", &bytes, None), Ok([(); 4].map(|()| compressed_rows()).concat()));
    let places = |signature: &[u8]| -> Vec<usize> {
        (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(signature)).collect()
    };
    // The last member packed by Zstandard, which nobody expects of a zip archive, as its header and the directory say.
    let mut other = bytes.clone();
    for (signature, method) in [(&b"PK\x03\x04"[..], 8), (b"PK\x01\x02", 10)] {
        let at = *places(signature).last().unwrap() + method;
        other[at] = 93;
    }
    let line = folder.read("a.zip", &other, None).unwrap_err();
    assert!(
        line.starts_with("a.zip: its member 3.txt is packed by ") && line.ends_with("; unpack it: unzip, or 7z x"),
        "{line}"
    );
    // Any damage is an error, or the text is still whole.
    for at in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        if let Ok(rows) = folder.read("a.zip", &flipped, None) {
            assert!(rows.chunks(200).all(|member| member == compressed_rows()), "{at}: {}", rows.len());
        }
    }
}

/// Rows or one error, never a panic; a cut inside a member is an error that names the way to test the file.
#[test]
fn damaged_compressed_files_are_errors() {
    let folder = Folder::new();
    for (extension, bytes) in COMPRESSED {
        let mut whole = Vec::new();
        for end in 1..bytes.len() {
            match folder.read("a.txt", &bytes[..end], None) {
                Ok(_) => whole.push(end),
                Err(message) => assert!(
                    [" -t", "is empty", "not valid UTF-8"].iter().any(|part| message.contains(part)),
                    "{extension} {end}: {message}"
                ),
            }
        }
        // Less than what tells the compression is a text of its own; else nothing is missing between the members alone.
        whole.retain(|&end| end >= 6);
        assert_eq!(whole.len(), 1, "{extension}: {whole:?} of {}", bytes.len());
        for at in (0..bytes.len()).step_by(5) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let _ = folder.read("a.txt", &flipped, None);
        }
    }
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compressed").join(name)).unwrap()
}

#[test]
fn tables_and_objects_are_read_compressed() {
    let folder = Folder::new();
    for name in ["rows.csv.gz", "rows.jsonl.zst"] {
        assert_eq!(folder.read(name, fixture(name), None), owned(&["first", "second\nrow"]), "{name}");
        let [files] =
            TextFiles::resolve([&[folder.path(name).display().to_string()]], None, &RowOptions::default()).unwrap();
        resumes_anywhere(&files);
    }
    // What `gzip` pads its output with on tapes is no member.
    let padded = [fixture("rows.csv.gz"), vec![0; 512]].concat();
    assert_eq!(folder.read("padded.csv.gz", padded, None), owned(&["first", "second\nrow"]));
}

/// An archive is its text files of the commonest kind, in the order in which Python walks what it unpacked.
#[test]
fn archives_and_folders_are_their_text() {
    let folder = Folder::new();
    let rows = |names: &[String]| folder.rows(names, None, false);
    let mut expected: Vec<String> = (0..4).map(|row| format!("row {row}")).collect();
    expected.extend(vec!["row 4".to_owned(); 20]);
    let archive = folder.write("texts.zip", fixture("texts.zip"));
    assert_eq!(rows(std::slice::from_ref(&archive)), Ok(expected.clone()));
    let other = folder.write("texts.txt", fixture("texts.zip"));
    assert_eq!(rows(&[other]), Ok(expected.clone()), "the content tells");
    let [files] = TextFiles::resolve([std::slice::from_ref(&archive)], None, &RowOptions::default()).unwrap();
    resumes_anywhere(&files);
    assert_eq!(find_files(&[archive]).unwrap(), [folder.path("texts.zip")]);

    for (name, content) in [
        ("in/b/two.txt", "row 2\nrow 3\n"),
        ("in/b/a/three.txt", &"row 4\n".repeat(20)),
        ("in/z.txt", "row 1\n"),
        ("in/a.txt", "row 0\n"),
        ("in/.hidden.txt", "hidden\n"),
        ("in/__pycache__/x.txt", "hidden\n"),
        ("in/README.md", "# Texts"),
        ("in/picture.png", "\u{89}PNG"),
        ("in/dataset_info.json", "{}"),
        ("in/rows.csv", "text\nanother kind\n"),
    ] {
        std::fs::create_dir_all(folder.path(name).parent().unwrap()).unwrap();
        folder.write(name, content);
    }
    assert_eq!(rows(&[folder.path("in").display().to_string()]), Ok(expected));
}

#[test]
fn archives_that_cannot_be_read_are_errors() {
    let folder = Folder::new();
    let bytes = fixture("texts.zip");
    let fails = |bytes: &[u8]| folder.read("a.zip", bytes, None).unwrap_err();
    // Bit 0 of the flags, in the member's own header and in the directory.
    let mut encrypted = bytes.clone();
    for (signature, flags) in [(&b"PK\x03\x04"[..], 6), (b"PK\x01\x02", 8)] {
        for at in 0..encrypted.len() - 4 {
            if encrypted[at..].starts_with(signature) {
                encrypted[at + flags] |= 1;
            }
        }
    }
    assert_eq!(fails(&encrypted), "a.zip: its member b/two.txt is encrypted; unpack it with its password: unzip");
    let cut = fails(&bytes[..bytes.len() / 2]);
    assert!(cut.starts_with("a.zip: the zip archive is damaged or cut off (") && cut.ends_with("unzip -t"), "{cut}");
    let mut another = bytes.clone();
    let row = another.windows(5).position(|window| window == b"row 1").unwrap();
    another[row] = b'R';
    assert_eq!(
        fails(&another),
        "a.zip/z.txt: cannot read: the member of the zip archive is damaged or cut off (another CRC-32); check it with unzip -t"
    );
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let _ = folder.read("a.zip", &flipped, None);
    }
}
