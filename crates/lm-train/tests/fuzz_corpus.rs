//! Everything that fuzzing found, given to the parsers again: a program of its own, since a finding may end it.
#![cfg(feature = "flex")]

#[path = "../../../fuzz/src/targets.rs"]
mod targets;

use targets::TARGETS;

#[test]
fn what_fuzzing_found_ends_in_a_value_or_an_error() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let folders = std::fs::read_dir(&corpus).expect("the corpus").count();
    assert_eq!(folders, TARGETS.len(), "a folder for each target, and no other");
    for (name, target) in TARGETS {
        let files = std::fs::read_dir(corpus.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut number = 0;
        for file in files {
            let path = file.expect("an entry").path();
            let began = std::time::Instant::now();
            let bytes = std::fs::read(&path).expect("a finding");
            std::panic::catch_unwind(|| target(&bytes))
                .unwrap_or_else(|_| panic!("{} is a finding again", path.display()));
            assert!(began.elapsed().as_secs() < 60, "{} takes for ever", path.display());
            number += 1;
        }
        assert!(number > 0, "{name} has no findings");
    }
}
