//! What options make rows of a file.

use super::*;

/// What `load_dataset("text", sample_by=…)` of datasets 5.0.1 makes of these.
#[test]
fn paragraphs_and_documents_are_those_of_datasets() {
    let folder = Folder::new();
    let texts: [(&str, &[&str], &str); 7] = [
        ("a\nb\n\nc\n\n\nd\n\n\n\ne\n", &["a\nb", "c", "\nd", "e\n"], "a\nb\n\nc\n\n\nd\n\n\n\ne\n"),
        ("\n\na\n", &["a\n"], "\n\na\n"),
        ("a\r\n\r\nb\r\rc", &["a", "b", "c"], "a\n\nb\n\nc"),
        ("a\n\n", &["a"], "a\n\n"),
        ("one\n\n\n\n\n\ntwo\n\n", &["one", "two"], "one\n\n\n\n\n\ntwo\n\n"),
        ("no end", &["no end"], "no end"),
        (" \n\n \n", &[" ", " \n"], " \n\n \n"),
    ];
    for (text, paragraphs, document) in texts {
        let file = [folder.write("a.txt", text)];
        let by = |sample_by| {
            let options = RowOptions { sample_by, ..RowOptions::default() };
            let [files] = TextFiles::resolve([&file], None, &options).unwrap();
            resumes_anywhere(&files);
            folder.rows_by(&file, None, &options)
        };
        assert_eq!(by(SampleBy::Paragraph), owned(paragraphs), "{text:?}");
        assert_eq!(by(SampleBy::Document), owned(&[document]), "{text:?}");
    }
    // More than a buffer of the reader.
    let long = "a line of it\n".repeat(100_000);
    let file = [folder.write("a.txt", format!("{long}\n{long}"))];
    let options = RowOptions { sample_by: SampleBy::Paragraph, ..RowOptions::default() };
    assert_eq!(folder.rows_by(&file, None, &options), owned(&[long.trim_end(), &long]));
}

/// Semicolons and tabs are found where commas make no columns and they do.
#[test]
fn delimiters_are_found() {
    let folder = Folder::new();
    let read = |name: &str, content: &str| folder.read(name, content, None);
    assert_eq!(read("a.csv", "id;text\n1;a, b\n2;\"c;\nd\"\n"), owned(&["a, b", "c;\nd"]));
    assert_eq!(read("a.csv", "id\ttext\n1\ta; b\n2\tc\n"), owned(&["a; b", "c"]));
    assert_eq!(read("a.tsv", "text\na, b; c\nd\n"), owned(&["a, b; c", "d"]), "tabs, by its name");
    assert_eq!(read("a.tsv", "id,text\ttext\n1\ta\n"), owned(&["a"]));
    assert_eq!(read("a.csv", "text\na; b\nc\n"), owned(&["a; b", "c"]), "one column");
    assert_eq!(read("a.csv", "text,a;b\nx,1;2\n"), owned(&["x"]), "commas come first");
    assert_eq!(folder.read("a.csv", "note;n\nx;1\n", Some("note")), owned(&["x"]));
    let many: String = (0..20_000).map(|row| format!("{row};row {row}\n")).collect();
    let file = [folder.write("long.csv", format!("id;text\n{many}"))];
    let [files] = TextFiles::resolve([&file], None, &RowOptions::default()).unwrap();
    let mut rows = files.rows();
    assert!(rows.by_ref().take(19_998).all(|row| row.is_ok()));
    let rest: Vec<String> = files.rows_from(rows.next_position()).collect::<Result<_, _>>().unwrap();
    assert_eq!(rest, ["row 19998", "row 19999"]);
}

/// Without a header the first record is a row.
#[test]
fn columns_can_be_named() {
    let folder = Folder::new();
    let read = |content: &str, names: &[&str], column: Option<&str>| {
        let column_names = names.iter().map(|name| (*name).to_owned()).collect();
        let options = RowOptions { csv: CsvOptions { column_names, ..CsvOptions::default() }, ..RowOptions::default() };
        let file = [folder.write("a.csv", content)];
        if let Ok([files]) = TextFiles::resolve([&file], column, &options)
            && files.rows().all(|row| row.is_ok())
        {
            resumes_anywhere(&files);
        }
        folder.rows_by(&file, column, &options)
    };
    assert_eq!(read("1,a\n2,b\n", &["id", "text"], None), owned(&["a", "b"]));
    assert_eq!(read("1;a, x\n2;b\n", &["id", "text"], None), owned(&["a, x", "b"]));
    assert_eq!(read("a\nb, c\n", &["text"], None).unwrap_err(), "a.csv:2: 2 fields, but --column_names names 1");
    assert_eq!(read("x,a\n", &["one", "two"], Some("two")), owned(&["a"]));
}

/// What a data set's card may say, from any row on.
#[test]
fn options_of_a_card_are_heeded_from_any_row_on() {
    let folder = Folder::new();
    let read = |name: &str, content: &str, options: RowOptions| {
        let file = [folder.write(name, content)];
        let [files] = TextFiles::resolve([&file], None, &options).unwrap();
        resumes_anywhere(&files);
        folder.rows_by(&file, None, &options)
    };
    let csv = |csv: CsvOptions| RowOptions { csv, ..RowOptions::default() };
    let no_header = CsvOptions { header: Some(false), quote: Some(b'\''), ..CsvOptions::default() };
    assert_eq!(read("a.csv", "'a, b',1\n\nc \"d\",2\n", csv(no_header)), owned(&["a, b", "c \"d\""]));
    let tabs = CsvOptions { delimiter: Some(b'\t'), quote: None, ..CsvOptions::default() };
    assert_eq!(read("a.csv", "n\ttext\n1\t\"a,\n2\tb\n", csv(tabs)), owned(&["\"a,", "b"]));
    let commas = CsvOptions { delimiter: Some(b','), ..CsvOptions::default() };
    assert_eq!(read("a.tsv", "text,n\na\tb,1\nc,2\n", csv(commas)), owned(&["a\tb", "c"]));
    let field = RowOptions { field: Some("rows".into()), ..RowOptions::default() };
    let json = "\u{feff}{\"n\": [{\"rows\": \"]}\"}], \"s\": \"\\\"\", \"rows\": [{\"text\": \"a\"},\n {\"text\": \"b\"}],\n\"more\": true}\n";
    assert_eq!(read("a.json", json, field.clone()), owned(&["a", "b"]));
    assert_eq!(read("a.json", "{\"rows\": [\"x\", \"y\"]}", field), owned(&["x", "y"]));
}
