//! What comes from the Hub, from the cache and from a folder.

use super::*;

#[test]
fn a_download_fetches_what_is_needed_once_into_the_cache_of_python() {
    let hub = TestHub::with_files(&MODEL);
    let folder = hub.resolve(Files::Model).unwrap();
    let repository = hub.cache.path().join("models--owner--model");
    assert_eq!(folder, repository.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"the weights");
    assert_eq!(std::fs::read(repository.join("blobs").join(git_name(b"{}"))).unwrap(), b"{}");
    assert_eq!(hub.downloaded(), ["config.json", "generation_config.json", "model.safetensors"]);

    assert_eq!(hub.resolve(TOKENIZER).unwrap(), folder);
    assert_eq!(hub.downloaded(), ["tokenizer.json", "vocab.txt"]);
    for files in [Files::Config, TOKENIZER, Files::Model] {
        assert_eq!(hub.resolve(files).unwrap(), folder);
    }
    assert!(hub.downloaded().is_empty(), "a second call is served from the cache");
}

#[test]
fn shards_and_redirected_files_are_fetched() {
    let index = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let hub = TestHub::new(Script {
        files: contents(&[
            ("config.json", "{}"),
            ("model.safetensors.index.json", index),
            ("model-00001-of-00002.safetensors", "first"),
            ("model-00002-of-00002.safetensors", "second"),
            ("model-00001-of-00009.safetensors", "of another save"),
        ]),
        redirected: vec!["model-00002-of-00002.safetensors"],
        ..Script::default()
    });
    let folder = hub.resolve(Files::Model).unwrap();
    assert_eq!(std::fs::read(folder.join("model-00001-of-00002.safetensors")).unwrap(), b"first");
    assert_eq!(std::fs::read(folder.join("model-00002-of-00002.safetensors")).unwrap(), b"second");
    assert!(!folder.join("model-00001-of-00009.safetensors").exists());

    let offline = Settings { offline: true, ..hub.settings() };
    assert_eq!(hub.resolve_with(Files::Model, &offline).unwrap(), folder);
    std::fs::remove_file(folder.join("model-00002-of-00002.safetensors")).unwrap();
    let error = hub.resolve_with(Files::Model, &offline).unwrap_err();
    assert!(matches!(&error, HubError::NotCached { missing, .. } if missing.contains("00002-of")), "{error}");
}

#[test]
fn weights_of_other_frameworks_are_fetched_where_there_are_no_others() {
    let index = r#"{"weight_map": {"a": "tf_model-00001-of-00001.h5"}}"#;
    let checkpoint = ["b.ckpt.index", "b.ckpt.data-00000-of-00002", "b.ckpt.data-00001-of-00002"];
    for (files, expected) in [
        (&["tf_model.h5", "flax_model.msgpack", "rust_model.ot"][..], &["tf_model.h5"][..]),
        (&["flax_model.msgpack", "rust_model.ot"], &["flax_model.msgpack"]),
        (
            &["tf_model.h5.index.json", "tf_model-00001-of-00001.h5"],
            &["tf_model-00001-of-00001.h5", "tf_model.h5.index.json"],
        ),
        (&["b.ckpt.meta", checkpoint[0], checkpoint[1], checkpoint[2]], &[checkpoint[1], checkpoint[2], checkpoint[0]]),
        (&["tf_model.h5", "pytorch_model.bin", checkpoint[0], checkpoint[1]], &["pytorch_model.bin"]),
    ] {
        let content = |name: &'static str| (name, if name.ends_with(".json") { index } else { name });
        let contents: Vec<_> =
            [("config.json", "{}")].into_iter().chain(files.iter().map(|name| content(name))).collect();
        let hub = TestHub::with_files(&contents);
        let folder = hub.resolve(Files::Model).unwrap();
        let mut found = hub.downloaded();
        found.sort();
        found.retain(|name| name != "config.json");
        assert_eq!(found, expected);
        let offline = Settings { offline: true, ..hub.settings() };
        assert_eq!(hub.resolve_with(Files::Model, &offline).unwrap(), folder);
        std::fs::remove_file(folder.join(expected[0])).unwrap();
        assert!(hub.resolve_with(Files::Model, &offline).is_err(), "{}", expected[0]);
    }
    let hub = TestHub::with_files(&[("config.json", "{}"), ("b.ckpt.index", "x"), (checkpoint[1], "x")]);
    let error = hub.resolve(Files::Model).unwrap_err().to_string();
    assert!(error.contains("has no b.ckpt.data-00001-of-00002"), "{error}");
}

#[test]
fn a_broken_download_is_taken_up_again_and_never_kept() {
    let breaks = Mutex::new(HashMap::from([("model.safetensors", 2)]));
    let hub = TestHub::new(Script { files: contents(&MODEL), breaks, ..Script::default() });
    let folder = hub.resolve(Files::Model).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"the weights");

    let breaks = Mutex::new(HashMap::from([("model.safetensors", usize::MAX)]));
    let hub = TestHub::new(Script { files: contents(&MODEL), breaks, ..Script::default() });
    // Files are fetched side by side: what else of the model's arrives before the breaking one fails is chance.
    hub.resolve(Files::Config).unwrap();
    let error = hub.resolve(Files::Model).unwrap_err();
    assert!(matches!(error, HubError::Interrupted { .. }), "{error}");
    let folder = hub.cache.path().join("models--owner--model/snapshots").join(COMMIT);
    assert!(folder.join("config.json").exists() && !folder.join("model.safetensors").exists());
}

#[test]
fn offline_serves_the_cache_and_nothing_else() {
    let hub = TestHub::with_files(&MODEL);
    let offline = Settings { offline: true, ..hub.settings() };
    let error = hub.resolve_with(Files::Model, &offline).unwrap_err();
    assert!(matches!(error, HubError::NotCached { .. }), "{error}");
    assert!(hub.log.lock().unwrap().is_empty(), "the network was not touched");

    let folder = hub.resolve(Files::Config).unwrap();
    assert_eq!(hub.resolve_with(Files::Config, &offline).unwrap(), folder);
    let error = hub.resolve_with(Files::Model, &offline).unwrap_err();
    assert!(matches!(&error, HubError::NotCached { missing, .. } if missing == "the weights"), "{error}");
    let error = hub.resolve_with(TOKENIZER, &offline).unwrap_err();
    assert!(matches!(&error, HubError::NotCached { missing, .. } if missing == "the tokenizer"), "{error}");
}

#[test]
fn without_a_network_the_cache_serves_too() {
    let hub = TestHub::with_files(&MODEL);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = Settings { endpoint: format!("http://me:secret@{closed}"), ..hub.settings() };
    let by_commit = Settings { revision: COMMIT.to_string(), ..hub.settings() };
    let error = hub.resolve_with(Files::Model, &unreachable).unwrap_err();
    assert!(matches!(&error, HubError::NoNetwork { detail, .. } if detail.contains("refused")), "{error}");
    assert!(!error.to_string().contains("secret") && error.to_string().contains("revision \"main\""), "{error}");
    let folder = hub.resolve(Files::Model).unwrap();
    assert_eq!(hub.resolve_with(Files::Model, &unreachable).unwrap(), folder);

    hub.log.lock().unwrap().clear();
    assert_eq!(hub.resolve_with(Files::Model, &by_commit).unwrap(), folder);
    assert!(hub.log.lock().unwrap().is_empty(), "a commit in the cache needs no network");

    let at = |settings: &Settings| {
        let model = Repo::new(RepoTypeAny::Model, "owner/model").unwrap();
        Files::Model.folder(&Revision::new(&model, settings).unwrap())
    };
    let invalid = Settings { endpoint: "the hub".to_string(), ..hub.settings() };
    let error = at(&invalid).unwrap_err();
    assert!(error.to_string().starts_with("HF_ENDPOINT \"the hub\" is no URL"), "{error}");
    let invalid = Settings { endpoint: "file:///etc".to_string(), ..hub.settings() };
    let error = at(&invalid).unwrap_err();
    assert!(error.to_string().contains("it begins with file:"), "{error}");
}

#[test]
fn what_has_arrived_is_not_fetched_again() {
    let ranges = |hub: &TestHub| -> Vec<String> {
        let seen = std::mem::take(&mut *hub.script.seen.lock().unwrap());
        seen.into_iter().map(|(_, range)| range).filter(|range| !range.is_empty()).collect()
    };
    for no_parts in [false, true] {
        let hub = TestHub::new(Script { files: contents(&MODEL), no_parts, ..Script::default() });
        let blobs = hub.cache.path().join("models--owner--model/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(git_name(b"the weights") + ".incomplete"), "the w").unwrap();
        let folder = hub.resolve(Files::Model).unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"the weights");
        assert_eq!(ranges(&hub), ["5-10"]);
        let asked = hub.downloaded().into_iter().filter(|file| file == "model.safetensors").count();
        assert_eq!(asked, 1 + usize::from(no_parts), "a server that sends no parts is asked for the whole");
    }
}

#[test]
fn a_folder_is_itself() {
    let dir = tempfile::tempdir().unwrap();
    let options = HubOptions::default();
    assert_eq!(resolve(dir.path().to_str().unwrap(), Files::Model, &options).unwrap(), dir.path());
    let file = dir.path().join("config.json");
    std::fs::write(&file, "{}").unwrap();
    let error = resolve(file.to_str().unwrap(), Files::Model, &options).unwrap_err();
    assert!(matches!(error, HubError::NotAFolder(..)));
    for name in ["./absent", "/absent/model", "a/b/c", "-x", "a--b", "a..b", "x.git", "", "a b", "~/model"] {
        let error = resolve(name, Files::Model, &options).unwrap_err();
        assert!(matches!(error, HubError::NoSuchFolder(_)), "{name:?}: {error}");
    }
}

/// A data set under its old name: what is wanted of it comes, later without the Hub, under either name.
#[test]
fn a_data_set_is_found_listed_and_downloaded_in_part() {
    let files =
        contents(&[("README.md", "---\n---\n"), ("data/train.csv", "text\na\n"), ("data/test.csv", "text\nb\n")]);
    let hub = TestHub::new(Script { files, ..Script::default() });
    let find = |name: &str, settings: Settings| DataSet::open(Repo::new(RepoTypeAny::Dataset, name).unwrap(), settings);
    let train = ["data/train.csv".to_string()];
    let set = find("model", hub.settings()).unwrap();
    assert_eq!(set.name(), "owner/model");
    assert_eq!(set.files(), ["README.md", "data/test.csv", "data/train.csv"]);
    assert_eq!(set.text("README.md").unwrap().as_deref(), Some("---\n---\n"));
    assert_eq!(set.text(".huggingface.yaml").unwrap(), None);
    let folder = set.download(&train).unwrap();
    assert_eq!(folder, hub.cache.path().join("datasets--owner--model/snapshots").join(COMMIT));
    assert!(folder.join("data/train.csv").exists() && !folder.join("data/test.csv").exists());

    let requests = hub.log.lock().unwrap().len();
    for name in ["owner/model", "model"] {
        let offline = find(name, Settings { offline: true, ..hub.settings() }).unwrap();
        assert_eq!(offline.files().len(), 3, "the list is kept");
        assert_eq!(offline.download(&train).unwrap(), folder);
        let error = offline.download(&["data/test.csv".to_string()]).unwrap_err();
        assert!(matches!(&error, HubError::NotCached { missing, .. } if missing == "data/test.csv"), "{error}");
    }
    assert_eq!(hub.log.lock().unwrap().len(), requests, "nobody was asked");

    let nobody = Settings { endpoint: "http://127.0.0.1:1".into(), ..hub.settings() };
    let unreachable = find("owner/model", nobody.clone()).unwrap();
    assert_eq!(unreachable.download(&train).unwrap(), folder);
    let error = unreachable.download(&["data/test.csv".to_string()]).unwrap_err();
    assert!(matches!(&error, HubError::NoNetwork { missing, .. } if missing == "data/test.csv"), "{error}");
    let error = find("owner/other", nobody).err().unwrap().to_string();
    assert!(error.contains("owner/other") && error.contains("cannot be reached"), "{error}");
}

#[test]
fn a_data_set_that_is_refused_is_called_one() {
    let refusal = |status, code| {
        let hub = TestHub::new(Script { error: Some((status, code)), ..Script::default() });
        let repo = Repo::new(RepoTypeAny::Dataset, "owner/model").unwrap();
        DataSet::open(repo, hub.settings()).err().unwrap().to_string()
    };
    let unknown = refusal("401 Unauthorized", "RepoNotFound");
    assert!(unknown.contains("no such dataset on") && unknown.contains("a private dataset needs a token"), "{unknown}");
    let gated = refusal("403 Forbidden", "GatedRepo");
    assert!(gated.contains("/datasets/owner/model, then give a token"), "{gated}");
    let revision = refusal("404 Not Found", "RevisionNotFound");
    assert!(revision.contains("check --dataset_revision"), "{revision}");
}

#[test]
fn files_of_a_data_set_lie_in_its_folders() {
    let files =
        contents(&[("README.md", "a data set"), ("data/train.csv", "text\na\n"), ("data/test.csv", "text\nb\n")]);
    let hub = TestHub::new(Script { files, ..Script::default() });
    let (repo, settings) = (Repo::new(RepoTypeAny::Dataset, "owner/model").unwrap(), hub.settings());
    let revision = Revision::new(&repo, &settings).unwrap();
    let fetch = |snapshot: &Snapshot<'_>| {
        let mut paths: Vec<_> = snapshot.sizes.keys().filter(|path| path.starts_with("data/")).collect();
        paths.sort();
        snapshot.download(&paths)
    };
    let folder = lookup::folder(&revision, Err("the data set".to_string()), fetch).unwrap();
    assert_eq!(folder, hub.cache.path().join("datasets--owner--model/snapshots").join(COMMIT));
    assert_eq!(std::fs::read(folder.join("data/train.csv")).unwrap(), b"text\na\n");
    assert!(folder.join("data/test.csv").exists() && !folder.join("README.md").exists());
    assert_eq!(revision.has(COMMIT, "data/train.csv"), Ok(true), "the link leads to the bytes");
    let log = hub.log.lock().unwrap();
    assert!(log.contains(&format!("GET /api/datasets/owner/model/tree/{COMMIT}?recursive=true")), "{log:?}");
    assert!(log.contains(&format!("GET /datasets/owner/model/resolve/{COMMIT}/data/train.csv")), "{log:?}");
}

/// Of more files than that, four are fetched at any time: none comes before four are asked for.
#[test]
fn several_files_are_fetched_at_once() {
    let names = ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt", "f.txt", "g.txt", "h.txt"];
    let files = contents(&names.map(|name| (name, name)));
    let hub = TestHub::new(Script { files, together: Some(Barrier::new(4)), ..Script::default() });
    let set = DataSet::open(Repo::new(RepoTypeAny::Dataset, "owner/model").unwrap(), hub.settings()).unwrap();
    let folder = set.download(&names.map(String::from)).unwrap();
    for name in names {
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), name.as_bytes());
    }
}
