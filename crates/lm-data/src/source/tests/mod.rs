mod options;
mod packed;
mod remote;

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::error::LONGEST_ROW;
use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }

    /// All rows of one file, or the message of the first error with the folder's name left out.
    fn read(&self, name: &str, content: impl AsRef<[u8]>, column: Option<&str>) -> Result<Vec<String>, String> {
        let file = self.write(name, content);
        self.rows(&[file], column, false)
    }

    fn rows(&self, files: &[String], column: Option<&str>, keep_linebreaks: bool) -> Result<Vec<String>, String> {
        self.rows_by(files, column, &RowOptions { keep_linebreaks, ..RowOptions::default() })
    }

    fn rows_by(&self, files: &[String], column: Option<&str>, options: &RowOptions) -> Result<Vec<String>, String> {
        let files = TextFiles::resolve([files], column, options);
        let rows = files.and_then(|[files]| files.rows().collect());
        rows.map_err(|error| error.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }
}

fn owned(rows: &[&str]) -> Result<Vec<String>, String> {
    Ok(rows.iter().map(|row| (*row).to_owned()).collect())
}

/// What Python's `open(…)` and `StringIO.readlines()` make of it.
#[test]
fn lines_end_as_in_python() {
    let folder = Folder::new();
    let text = "one\r\ntwo\rthree\n\n\x0cfour\x0b\u{85}\u{2028}\x1c five\r\r\nend";
    let lines = ["one", "two", "three", "", "\x0cfour\x0b\u{85}\u{2028}\x1c five", "", "end"];
    assert_eq!(folder.read("a.txt", text, None), owned(&lines));
    assert_eq!(folder.read("a.txt", "\u{feff}a\n\u{feff}b", None), owned(&["a", "\u{feff}b"]), "no mark at the start");
    assert_eq!(folder.read("a.txt", "\n", None), owned(&[""]));
    let file = folder.write("b.txt", "one\r\ntwo");
    assert_eq!(folder.rows(&[file], None, true), owned(&["one\n", "two"]));
}

#[test]
fn csv_is_read_as_pandas_reads_it() {
    let folder = Folder::new();
    let read = |content: &str| folder.read("a.csv", content, None);
    assert_eq!(read("id,text\n1,a\n   \n\n2,\"b, \"\"c\"\"\nd\"\n"), owned(&["a", "b, \"c\"\nd"]));
    assert_eq!(read("id,text\r1,a\r2,\"b\r\nc\"\r"), owned(&["a", "b\r\nc"]));
    assert_eq!(read("\u{feff}\"text\",n\na\"b\"c,1\n\"b\"c,2"), owned(&["a\"b\"c", "bc"]));
    assert_eq!(read("text,note\na\n,x\nNA,x\n"), owned(&["a", "", "NA"]));
    assert_eq!(read("text\na\n\n\"\"\n"), owned(&["a", ""]));
    assert_eq!(read("first,second\na,b\n"), owned(&["a"]));
    assert_eq!(folder.read("a.csv", "first,second\na,b\n", Some("second")), owned(&["b"]));
}

#[test]
fn json_is_objects_or_an_array() {
    let folder = Folder::new();
    let read = |content: &str| folder.read("a.json", content, None);
    let lines = "\u{feff}{\"n\": 1, \"text\": \"a\"}\r\n\n {\"text\": \"\\u00e9\\n\"}";
    assert_eq!(read(lines), owned(&["a", "é\n"]));
    let spread = "{\n \"text\": \"a\",\n \"n\": [1,\n 2]\n}\n{\"text\": \"b\"} {\"text\": \"c\"}{\"text\":\n\"d\"}";
    assert_eq!(read(spread), owned(&["a", "b", "c", "d"]));
    let python = "{\"n\": NaN, \"text\": \"a\"}\n{\"n\": -Infinity, \"text\": \"NaN\"}\n{\"n\": [Infinity, 1e999], \"text\": \"c\"}\n";
    assert_eq!(read(python), owned(&["a", "NaN", "c"]));
    assert_eq!(read(" [ {\"body\": \"a]}\\\"\", \"x\": [1, {}]} ,\n{\"body\": \"b\"}\n]\n"), owned(&["a]}\"", "b"]));
    assert_eq!(read("[\"a\", \"b\"]"), owned(&["a", "b"]));
    assert_eq!(read("[]"), owned(&[]));
    assert_eq!(folder.read("a.jsonl", "{\"a\": \"x\", \"b\": \"y\"}\n", Some("b")), owned(&["y"]));
}

#[test]
fn names_patterns_and_lists_of_files() {
    let folder = Folder::new();
    folder.write("b.txt", "2");
    let first = folder.write("a.txt", "1\n");
    let odd = folder.write("x,y[1].txt", "3\n");
    let pattern = folder.path("?.txt").display().to_string();
    assert_eq!(folder.rows(std::slice::from_ref(&pattern), None, false), owned(&["1", "2"]));
    assert_eq!(folder.rows(&[format!("{first},{pattern}"), odd], None, false), owned(&["1", "1", "2", "3"]));
}

/// Files without rows, and texts that are missing, as in Python.
#[test]
fn what_is_empty_is_left_out() {
    let folder = Folder::new();
    let names = ["a.txt", "b.txt", "c.jsonl"].map(|name| folder.write(name, ""));
    let (text, json) = (folder.write("d.txt", "1\n"), folder.write("e.jsonl", "{\"text\": null}\n{\"text\": \"2\"}\n"));
    assert_eq!(folder.rows(&[&names[..2], &[text]].concat(), None, false), owned(&["1"]));
    assert_eq!(folder.rows(&[names[2].clone(), json], None, false), owned(&["", "2"]));
    let error = TextFiles::resolve([&names[..]], None, &RowOptions::default()).unwrap_err().to_string();
    assert!(error.ends_with("a.txt: the file is empty"), "{error}");
}

#[test]
fn errors_name_the_file_and_the_line() {
    let folder = Folder::new();
    let fails = |name: &str, content: &[u8], column: Option<&str>| folder.read(name, content, column).unwrap_err();
    assert_eq!(fails("a.txt", b"", None), "a.txt: the file is empty");
    assert_eq!(
        fails("a.txt", b"ok\nna\xc3\xaf\xffve\n", None),
        "a.txt:2: not valid UTF-8 (byte 5 of the line); convert the file to UTF-8"
    );
    assert_eq!(
        fails("a.xml", b"x", None),
        "a.xml: unknown kind of file; supported are .parquet, .arrow, .json, .jsonl, .ndjson, .csv, .tsv and .txt"
    );
    assert_eq!(fails("a.csv", b"id,n\n1,2\n", Some("text")), "a.csv:1: no column `text`; the columns are: id, n");
    assert_eq!(fails("a.csv", b"id,text\n1,a\n2,b,c\n", None), "a.csv:3: 3 fields, but the header names 2");
    assert_eq!(
        fails("a.csv", b"id,text\n1,\"a\nb\"\n2\n", None),
        "a.csv:4: only 1 of 2 fields: column `text` is missing"
    );
    assert_eq!(
        fails("a.csv", b"id,text\n1,a\n2,\"b\n3,c\n", None),
        "a.csv:3: a quote is opened in this record and never closed"
    );
    assert_eq!(
        fails("a.csv", b"id,text\n1,\"a\n\xff\"\n", None),
        "a.csv:3: not valid UTF-8 (byte 1 of the line); convert the file to UTF-8"
    );
    assert_eq!(fails("a.json", b"{\"text\": \"a\"}\n[1]\n", None), "a.json:2: an array, where an object is expected");
    assert_eq!(fails("a.json", b"{\"text\": \"a\"}\n\"b\"\n", None), "a.json:2: a string, where an object is expected");
    assert_eq!(
        fails("a.json", b"{\"text\": \"a\"}\n\n{\"text\": \n", None),
        "a.json:3: the file ends inside the record that begins here"
    );
    assert_eq!(
        fails("a.json", b"{\"text\": \"a\"}\n{\"text\": 5}\n", None),
        "a.json:2: column `text` is a number, not a string"
    );
    assert_eq!(
        fails("a.json", b"{\"text\": \"a\"}\n{\"body\": \"a\"}\n", None),
        "a.json:2: no column `text`; the columns are: body"
    );
    let late = [&b"{\"body\": \"a\"}\n".repeat(100)[..], b"{\"text\": \"a\", \"body\": \"\"}\n"].concat();
    assert_eq!(
        fails("a.json", &late, None),
        "a.json:101: has a column `text`, which the first rows have not (there `body` is taken); choose one with --text_column"
    );
    assert_eq!(
        fails("a.json", b"{\"text\": \"a\"}\n{\"text\": \"b\nc\"}\n{\"text\": \"d\"}", None),
        "a.json:2: not valid JSON at the end of the line: control character (\\u0000-\\u001F) found while parsing a string"
    );
    assert_eq!(
        fails("a.json", b"{\"text\": \"a\"}\n\n{\"text\": \"b,\n\"n\": 1}\n", None),
        "a.json:3: not valid JSON at the end of the line: control character (\\u0000-\\u001F) found while parsing a string"
    );
    assert_eq!(
        fails("a.json", b"{\"text\": \"a\"},\n{\"text\": \"b\"}", None),
        "a.json:1: a comma (objects follow one another without one, or stand in an array), where an object is expected"
    );
    assert_eq!(
        fails("a.json", b"{\"data\": [{\"text\": \"a\"}]}", None),
        "a.json: no column is called `text`, and the first, `data`, holds an array; the columns are: data; if the rows lie in it, make them objects of their own, such as with jq -c '.data[]'"
    );
    assert_eq!(
        fails("a.json", b"[{\"text\": \"a\"}\n", None),
        "a.json:2: the file ends inside the array: the closing ] is missing"
    );
    assert_eq!(
        fails("a.json", b"[\n{\"text\": \"a\"},\n]", None),
        "a.json:3: expected an object or a string as element of the array"
    );
    assert_eq!(fails("a.json", b"[{\"text\": \"a\"}] x", None), "a.json:1: there is more after the end of the array");
    assert_eq!(
        fails("a.json", b"[{\"text\": \"a\"}, 3]", None),
        "a.json:1: expected an object or a string as element of the array"
    );
    let missing = folder.path("no.txt").display().to_string();
    assert_eq!(folder.rows(&[missing], None, false).unwrap_err(), "no.txt: no such file");
    let none = folder.path("no*.txt").display().to_string();
    assert_eq!(folder.rows(&[none], None, false).unwrap_err(), "no*.txt: no file matches this pattern");
    std::fs::create_dir(folder.path("dir.txt")).unwrap();
    let directory = folder.path("dir.txt").display().to_string();
    assert_eq!(
        folder.rows(&[directory], None, false).unwrap_err(),
        "dir.txt: is a folder without a file of text in it; supported are .parquet, .arrow, .json, .jsonl, .ndjson, .csv, .tsv and .txt"
    );
}

/// The rows from any position on are the rest of the rows.
fn resumes_anywhere(files: &TextFiles) {
    let all: Vec<String> = files.rows().collect::<Result<_, _>>().unwrap();
    let mut rows = files.rows();
    for read in 0..=all.len() {
        let rest: Vec<String> = files.rows_from(rows.next_position()).collect::<Result<_, _>>().unwrap();
        assert_eq!(rest, all[read..], "after {read} rows");
        rows.next();
    }
}

#[test]
fn reading_goes_on_from_any_position() {
    let folder = Folder::new();
    let files = [
        folder.write("a.txt", "one\r\ntwo\rthree\n\nfour"),
        folder.write("b.csv", "body,id\n\na,1\n\n\"b\n\",2\nc,3"),
        folder.write("c.jsonl", "{\"body\": \"x\"}\n\n{\"body\": \"y\"}"),
        folder.write("d.json", "[ {\"body\": \"x\"} ,\n {\"body\": \"y\"} ] \n"),
        folder.write("e.json", "[\"x\"\n,\"y\"]"),
    ];
    // An array of strings is a column called `text`: it goes with no other.
    let [objects, strings] = [&files[..4], &files[4..]].map(|files| {
        let [files] = TextFiles::resolve([files], None, &RowOptions::default()).unwrap();
        files
    });
    resumes_anywhere(&objects);
    resumes_anywhere(&strings);
}

/// Chosen by the first file, for all files of both splits.
#[test]
fn the_column_is_chosen_once() {
    let folder = Folder::new();
    let write = |name: &str, content: &str| vec![folder.write(name, content)];
    let both = |train: &[String], validation: &[String], named: Option<&str>| {
        let [train, validation] = TextFiles::resolve([train, validation], named, &RowOptions::default())
            .map_err(|error| error.to_string().replace(&format!("{}/", folder.0.path().display()), ""))?;
        let rows = |files: TextFiles| files.rows().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string());
        Ok::<_, String>((rows(train)?, rows(validation)?))
    };
    let reviews = write("reviews.csv", "review,label\ngood,0\n");
    let turned = write("turned.csv", "label,review\n1,bad\n");
    let objects = write("objects.jsonl", "{\"label\": 1, \"review\": \"bad\"}");
    for other in [&turned, &objects] {
        assert_eq!(both(&reviews, other, None), Ok((vec!["good".into()], vec!["bad".into()])));
    }
    let comments = write("comments.csv", "comment\nbad\n");
    assert_eq!(
        both(&reviews, &comments, None).unwrap_err(),
        "comments.csv: has no column `review` (its columns are: comment), but in reviews.csv the text is column `review`; give files with the same columns, or name one that all have with --text_column"
    );
    let texts = write("texts.json", "[{\"review\": \"a\", \"text\": \"b\"}]");
    let mixed = both(&reviews, &texts, None).unwrap_err();
    assert!(
        mixed.starts_with("texts.json: has a column `text` (its columns are: review, text), but in reviews.csv"),
        "{mixed}"
    );
    assert!(both(&[reviews[0].clone(), comments[0].clone()], &[], None).is_err(), "files of one split");
    assert_eq!(both(&reviews, &texts, Some("review")), Ok((vec!["good".into()], vec!["a".into()])));
    assert_eq!(
        both(&reviews, &comments, Some("body")).unwrap_err(),
        "reviews.csv:1: no column `body`; the columns are: review, label"
    );
    for (name, content) in
        [("turned.csv", None), ("objects.jsonl", None), ("ids.csv", Some("id,Content,when\nx-1,a,2024\n"))]
    {
        let file =
            content.map_or_else(|| vec![folder.path(name).display().to_string()], |content| write(name, content));
        let message = both(&file, &[], None).unwrap_err();
        let (column, kind, columns) =
            if content.is_some() { ("id", "ids", "id, Content, when") } else { ("label", "numbers", "label, review") };
        assert_eq!(
            message,
            format!(
                "{name}: no column is called `text`, and the first, `{column}`, holds {kind}; the columns are: {columns}; choose one with --text_column"
            )
        );
    }
}

#[test]
fn what_is_no_text_is_refused_by_its_first_bytes() {
    let folder = Folder::new();
    for name in ["a.txt", "a.csv", "a.jsonl"] {
        let fails = |bytes: &[u8]| folder.read(name, bytes, None).unwrap_err();
        assert_eq!(
            fails(b"\xff\xfeh\0i\0"),
            format!("{name}: is UTF-16 text, not text in UTF-8; convert it: iconv -f UTF-16 -t UTF-8")
        );
        assert_eq!(fails(b"\xef\xbb\xbf"), format!("{name}: the file is empty"));
    }
}

/// Rows are as long as the limit, and no longer; a longer one costs no more memory than that.
#[test]
fn rows_without_end_are_named() {
    let folder = Folder::new();
    let long = "a b ".repeat(LONGEST_ROW / 4);
    assert_eq!(folder.read("a.txt", format!("short\n{long}\nend"), None).unwrap()[1].len(), LONGEST_ROW);
    let fails = |name: &str, content: String| folder.read(name, content, None).unwrap_err();
    // Beyond the limit and the readers' buffers.
    let long = long + &"a b ".repeat(1 << 15);
    assert_eq!(
        fails("a.txt", format!("short\n{long}")),
        "a.txt:2: the line that begins here is longer than 256 MiB; break it into lines, such as one per paragraph"
    );
    assert_eq!(
        fails("a.csv", format!("text,n\nfine,1\n\"open,2\n{long}")),
        "a.csv:3: the row that begins here is longer than 256 MiB; is a quote opened and never closed?"
    );
    assert_eq!(
        fails("a.json", format!("{{\"text\": \"fine\"}}\n{{\"text\": \"open}}\n{long}")),
        "a.json:2: the record that begins here is longer than 256 MiB; is a quote or a brace opened and never closed?"
    );
}

proptest! {
    #[test]
    fn any_text_splits_as_universal_newlines(text in "[a\r\n\u{e9}\u{85}]{1,60}") {
        let folder = Folder::new();
        let expected = text.replace("\r\n", "\n").replace('\r', "\n");
        let expected: Vec<&str> = expected.strip_suffix('\n').unwrap_or(&expected).split('\n').collect();
        let file = folder.write("a.txt", &text);
        prop_assert_eq!(folder.rows(std::slice::from_ref(&file), None, false), owned(&expected));
        let [files] = TextFiles::resolve([std::slice::from_ref(&file)], None, &RowOptions::default()).unwrap();
        resumes_anywhere(&files);
    }

    #[test]
    fn csv_and_json_give_back_what_was_written(rows in proptest::collection::vec("[a,\"\r\n é]{0,12}", 1..8)) {
        let folder = Folder::new();
        let field = |row: &String| format!("\"{}\"", row.replace('"', "\"\""));
        let csv: String = rows.iter().map(|row| format!("{},1\n", field(row))).collect();
        prop_assert_eq!(folder.read("a.csv", format!("text,n\n{csv}"), None), Ok(rows.clone()));
        let object = |row: &String| serde_json::json!({"text": row}).to_string();
        let lines: Vec<String> = rows.iter().map(object).collect();
        prop_assert_eq!(folder.read("a.jsonl", lines.join("\n"), None), Ok(rows.clone()));
        prop_assert_eq!(folder.read("a.json", format!("[{}]", lines.join(" ,\n")), None), Ok(rows));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 1..200), kind in 0usize..4) {
        let folder = Folder::new();
        let file = folder.write(["a.txt", "a.csv", "a.json", "a.jsonl"][kind], bytes);
        let _ = folder.rows(&[file], None, false);
    }
}
