//! What is refused: by the Hub, and of what it and others say.

use super::*;

#[test]
fn an_error_page_is_not_kept_as_the_file() {
    let refused = HashMap::from([("model.safetensors", "403 Forbidden")]);
    let hub = TestHub::new(Script { files: contents(&MODEL), refused, ..Script::default() });
    let error = hub.resolve(Files::Model).unwrap_err();
    assert!(matches!(error, HubError::TokenRefused { .. }), "{error}");
    let repository = hub.cache.path().join("models--owner--model");
    assert!(!repository.join("blobs").join(git_name(b"the weights")).exists());
    assert!(std::fs::symlink_metadata(repository.join("snapshots").join(COMMIT).join("model.safetensors")).is_err());
}

#[test]
fn each_refusal_has_its_message() {
    let refusal = |status, code| {
        TestHub::new(Script { error: Some((status, code)), ..Script::default() }).resolve(Files::Model).unwrap_err()
    };
    assert!(matches!(refusal("401 Unauthorized", "RepoNotFound"), HubError::UnknownModel { .. }));
    assert!(matches!(refusal("404 Not Found", "RepoNotFound"), HubError::UnknownModel { .. }));
    assert!(matches!(refusal("404 Not Found", "RevisionNotFound"), HubError::UnknownRevision { .. }));
    assert!(matches!(refusal("401 Unauthorized", "GatedRepo"), HubError::Gated { .. }));
    assert!(matches!(refusal("403 Forbidden", "GatedRepo"), HubError::Gated { .. }));
    assert!(matches!(refusal("403 Forbidden", ""), HubError::TokenRefused { .. }));
    assert!(matches!(refusal("503 Service Unavailable", ""), HubError::NoNetwork { .. }));
    assert!(matches!(refusal("418 I'm a teapot", ""), HubError::Other { .. }));
}

#[test]
fn the_token_is_sent() {
    let hub = TestHub::new(Script { files: contents(&MODEL), token: Some("hf_secret"), ..Script::default() });
    let error = hub.resolve(Files::Config).unwrap_err();
    assert!(matches!(error, HubError::UnknownModel { token: false, .. }), "{error}");
    assert!(error.to_string().ends_with("a private model needs a token (--token or HF_TOKEN)"), "{error}");
    let other = Settings { token: Some("hf_other".to_string()), ..hub.settings() };
    let error = hub.resolve_with(Files::Config, &other).unwrap_err();
    assert!(matches!(error, HubError::UnknownModel { token: true, .. }), "{error}");
    assert!(error.to_string().contains("a private model is not opened by the token that was sent"), "{error}");
    let bad = Settings { token: Some("hf_secret\n".to_string()), ..hub.settings() };
    let error = hub.resolve_with(Files::Config, &bad).unwrap_err();
    assert!(matches!(error, HubError::BadToken { .. }) && !error.to_string().contains("hf_secret"), "{error}");
    let with_token = Settings { token: Some("hf_secret".to_string()), ..hub.settings() };
    hub.resolve_with(Files::Config, &with_token).unwrap();
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let seen = |hub: &TestHub| -> Vec<String> {
        std::mem::take(&mut *hub.script.seen.lock().unwrap()).into_iter().map(|(token, _)| token).collect()
    };
    let weights = || contents(&[("config.json", "{}"), ("model.safetensors", "the weights")]);
    let other = TestHub::new(Script { files: weights(), ..Script::default() });
    let redirected = vec!["model.safetensors"];
    let elsewhere = Some(other.endpoint.clone());
    let hub = TestHub::new(Script { files: weights(), redirected, elsewhere, ..Script::default() });
    let with_token = Settings { token: Some("hf_secret".to_string()), ..hub.settings() };
    hub.resolve_with(Files::Model, &with_token).unwrap();
    assert!(seen(&hub).iter().all(|token| token == "Bearer hf_secret"));
    let elsewhere = seen(&other);
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(String::is_empty), "{elsewhere:?}");

    // Nor is one looked for where none was given.
    let hub = TestHub::new(Script { files: weights(), ..Script::default() });
    hub.resolve(Files::Model).unwrap();
    let tokens = seen(&hub);
    assert!(!tokens.is_empty() && tokens.iter().all(String::is_empty), "{tokens:?}");
}

/// hf-xet would read what that host says of the parts, however long it is.
#[test]
fn parts_by_the_xet_protocol_are_not_asked_for() {
    let lie = Lie::Xet("cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc");
    let hub = TestHub::new(Script { files: contents(&MODEL), lie, ..Script::default() });
    let blobs = hub.cache.path().join("models--owner--model/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(git_name(b"the weights") + ".incomplete"), "the w").unwrap();
    let with_token = Settings { token: Some("hf_secret".to_string()), ..hub.settings() };
    let folder = hub.resolve_with(Files::Model, &with_token).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"the weights");
    assert!(hub.script.seen.lock().unwrap().iter().all(|(token, _)| token == "Bearer hf_secret"));
    let log = hub.log.lock().unwrap();
    assert!(log.iter().any(|line| line.contains("xet-read-token")), "hf-hub would have: {log:?}");
    assert!(!log.iter().any(|line| line.contains("reconstructions")), "{log:?}");
}

#[test]
fn a_model_that_lacks_files_is_refused_before_anything_is_downloaded() {
    let cases: [(&[_], _, _); 4] = [
        (&[("README.md", "")], Files::Model, "has no config.json"),
        (&[("config.json", "{}"), ("rust_model.ot", "x")], Files::Model, "has no weights"),
        (&[("config.json", "{}"), ("a.gguf", "x")], Files::Model, "only GGUF's"),
        (&[("config.json", "{}"), ("model.safetensors", "x")], TOKENIZER, "has no tokenizer"),
    ];
    for (files, wanted, expected) in cases {
        let hub = TestHub::with_files(files);
        let error = hub.resolve(wanted).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(hub.downloaded().is_empty());
    }
    let index = r#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#;
    let hub = TestHub::with_files(&[("config.json", "{}"), ("model.safetensors.index.json", index)]);
    let error = hub.resolve(Files::Model).unwrap_err().to_string();
    assert!(error.contains("has no model-00001-of-00001.safetensors"), "{error}");
}

/// Everything in the folder around the cache, as names.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() && !path.is_symlink() { all_files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_hub_that_lies_is_told_so_and_nothing_is_kept() {
    let cases = [
        (Lie::ETag("\"../../../../escaped\""), "an ETag that is no hash"),
        (Lie::ETag("\"/tmp/escaped\""), "an ETag that is no hash"),
        (Lie::ETag("\"a%00b\""), "an ETag that is no hash"),
        (Lie::FileCommit("../../../../escaped"), "of another commit (../../../../escaped)"),
        (Lie::FileCommit("main"), "of another commit (main)"),
        (Lie::Commit("../../../../escaped"), "a commit that is none: ../../../../escaped"),
        (Lie::Commit("main"), "a commit that is none: main"),
        (Lie::Zeros, "sent a wrong config.json"),
        (Lie::Longer, "more than the 2 bytes"),
        (Lie::Entries(r#"{"type": "file", "path": "a", "size": -1}"#), "invalid value: integer `-1`"),
        (
            Lie::Entries(r#"{"type": "file", "path": "config.json", "size": 4611686018427387904}"#),
            "a config.json of 4611686018427387904 bytes",
        ),
        (Lie::Entries("[["), "what no Hub answers: invalid type: sequence"),
        (Lie::Pages, "a list of files without end"),
        (Lie::EndlessList, "more than the 16777216 bytes"),
        (Lie::Location("file:///etc/passwd"), "a redirection to file:///etc/passwd"),
        (Lie::EndlessPage("403 Forbidden"), "a page without end instead of a file"),
        (Lie::EndlessPage("200 OK"), "more than the 2 bytes"),
        (Lie::Location("/owner/model/resolve/x"), "no such model"),
    ];
    for (lie, expected) in cases {
        let around = tempfile::tempdir().unwrap();
        let hub = TestHub::new(Script { files: contents(&[("config.json", "{}")]), lie, ..Script::default() });
        let settings = Settings { cache: around.path().join("a/b/c/d"), ..hub.settings() };
        let error = hub.resolve_with(Files::Config, &settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        for path in all_files(around.path()) {
            assert!(path.to_str().unwrap().ends_with(".lock"), "{}: {expected}", path.display());
        }
        let offline = Settings { offline: true, ..settings };
        assert!(matches!(hub.resolve_with(Files::Config, &offline), Err(HubError::NotCached { .. })), "{expected}");
    }
    // Names that no file of a model has are not looked at.
    let traversal = r#"{"type": "file", "path": "../../../../../escaped.json", "size": 2}"#;
    let lie = Lie::Entries(traversal);
    let hub = TestHub::new(Script { files: contents(&[("config.json", "{}")]), lie, ..Script::default() });
    assert!(hub.resolve(Files::Config).unwrap().join("config.json").exists());
    let index = r#"{"weight_map": {"a": "../../escaped.safetensors"}}"#;
    let hub = TestHub::with_files(&[("config.json", "{}"), ("model.safetensors.index.json", index)]);
    let error = hub.resolve(Files::Model).unwrap_err().to_string();
    assert!(error.contains("names ../../escaped.safetensors, which is no file beside it"), "{error}");
}

#[test]
fn what_another_program_left_wrong_in_the_cache_is_found_and_fetched_again() {
    let hub = TestHub::with_files(&MODEL);
    let folder = hub.resolve(Files::Model).unwrap();
    let offline = Settings { offline: true, ..hub.settings() };
    let outside = hub.cache.path().join("outside");
    std::fs::write(&outside, "the weights").unwrap();
    let blob = hub.cache.path().join("models--owner--model/blobs").join(git_name(b"the weights"));
    let weights = || std::fs::read(folder.join("model.safetensors"));
    let refused = || hub.resolve_with(Files::Model, &offline).unwrap_err().to_string();

    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, "the WEIGHTS").unwrap();
    assert!(refused().contains("an undamaged model.safetensors (its bytes do not have the hash"), "{}", refused());
    hub.downloaded();
    hub.resolve(Files::Model).unwrap();
    assert_eq!(
        (hub.downloaded(), weights().unwrap()),
        (vec!["model.safetensors".to_string()], b"the weights".to_vec())
    );

    #[cfg(unix)]
    {
        let link = folder.join("model.safetensors");
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        assert!(refused().contains("(it leads out of the cache)"), "{}", refused());
        hub.resolve(Files::Model).unwrap();
        assert_eq!(std::fs::read(&outside).unwrap(), b"the weights", "what it led to is untouched");
        assert!(link.canonicalize().unwrap().ends_with(git_name(b"the weights")));
    }
    // A reference that is no commit leads nowhere.
    std::fs::write(hub.cache.path().join("models--owner--model/refs/main"), "../../../outside").unwrap();
    assert!(refused().contains("revision \"main\""), "{}", refused());
    // What an earlier download left is believed no more than what comes.
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(blob.with_extension("incomplete"), "THE").unwrap();
    hub.resolve(Files::Model).unwrap();
    assert_eq!(weights().unwrap(), b"the weights");
}

#[test]
fn a_revision_is_no_path() {
    for revision in ["../../escaped", "/etc", "a//b", "a\\b", "", "refs/../.."] {
        let hub = TestHub::with_files(&MODEL);
        let settings = Settings { revision: revision.to_string(), ..hub.settings() };
        let error = hub.resolve_with(Files::Config, &settings).unwrap_err();
        assert!(matches!(error, HubError::UnknownRevision { .. }), "{error}");
    }
}
