//! Files of Flax, made here by their layout.

use rmp::encode as pack;

use crate::weights::Checkpoint;
use crate::weights::tests::{error_of, expect_equal, folder, models};

/// A tree of parameters.
enum Node {
    Map(Vec<(String, Node)>),
    /// Shape, type and bytes.
    Array(Vec<usize>, &'static str, Vec<u8>),
    /// The same in chunks of so many bytes.
    Chunked(Vec<usize>, &'static str, Vec<u8>, usize),
    Nothing,
}

impl Node {
    fn map(entries: impl IntoIterator<Item = (&'static str, Node)>) -> Self {
        Self::Map(entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Map(entries) => {
                pack::write_map_len(out, entries.len() as u32).unwrap();
                for (key, node) in entries {
                    pack::write_str(out, key).unwrap();
                    node.write(out);
                }
            }
            Self::Array(shape, dtype, bytes) => write_array(out, shape, dtype, bytes),
            Self::Chunked(shape, dtype, bytes, size) => {
                pack::write_map_len(out, 3).unwrap();
                pack::write_str(out, "__msgpack_chunked_array__").unwrap();
                pack::write_bool(out, true).unwrap();
                pack::write_str(out, "shape").unwrap();
                pack::write_map_len(out, shape.len() as u32).unwrap();
                for (axis, &size) in shape.iter().enumerate() {
                    pack::write_str(out, &axis.to_string()).unwrap();
                    pack::write_uint(out, size as u64).unwrap();
                }
                pack::write_str(out, "chunks").unwrap();
                pack::write_map_len(out, bytes.chunks(*size).len() as u32).unwrap();
                for (at, chunk) in bytes.chunks(*size).enumerate() {
                    pack::write_str(out, &at.to_string()).unwrap();
                    write_array(out, &[chunk.len() / 4], dtype, chunk);
                }
            }
            Self::Nothing => pack::write_nil(out).unwrap(),
        }
    }
}

fn write_array(out: &mut Vec<u8>, shape: &[usize], dtype: &str, bytes: &[u8]) {
    let mut inner = Vec::new();
    pack::write_array_len(&mut inner, 3).unwrap();
    pack::write_array_len(&mut inner, shape.len() as u32).unwrap();
    for &size in shape {
        pack::write_uint(&mut inner, size as u64).unwrap();
    }
    pack::write_str(&mut inner, dtype).unwrap();
    pack::write_bin(&mut inner, bytes).unwrap();
    pack::write_ext_meta(out, inner.len() as u32, 1).unwrap();
    out.extend(inner);
}

/// Names and arrays of a PyTorch folder as Flax has them.
fn arrays(torch: &str, chunk: Option<usize>) -> Vec<(String, Node)> {
    let torch = Checkpoint::open(&models().join(torch)).unwrap();
    let array = |name: &String| {
        let mut shape = torch.info(name).unwrap().shape.clone();
        let mut values = torch.read_f32(name).unwrap();
        let (owner, last) = name.rsplit_once('.').unwrap();
        let last = match (last, shape.as_slice()) {
            ("weight", _) if owner.ends_with("embeddings") => "embedding",
            ("weight", [_]) => "scale",
            ("weight", &[rows, columns]) => {
                values = (0..values.len()).map(|at| values[at % rows * columns + at / rows]).collect();
                shape.reverse();
                "kernel"
            }
            _ => last,
        };
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let node = match chunk {
            Some(size) if bytes.len() > size => Node::Chunked(shape, "float32", bytes, size),
            _ => Node::Array(shape, "float32", bytes),
        };
        (format!("{}/{last}", owner.replace('.', "/")), node)
    };
    torch.names().iter().map(array).collect()
}

/// Flat names as a tree.
fn tree(arrays: Vec<(String, Node)>) -> Node {
    let mut root = Vec::new();
    for (path, array) in arrays {
        insert(&mut root, &path, array);
    }
    Node::Map(root)
}

fn insert(entries: &mut Vec<(String, Node)>, path: &str, array: Node) {
    let Some((first, rest)) = path.split_once('/') else { return entries.push((path.to_owned(), array)) };
    let at = entries.iter().position(|(key, _)| key == first).unwrap_or_else(|| {
        entries.push((first.to_owned(), Node::Map(Vec::new())));
        entries.len() - 1
    });
    let Node::Map(below) = &mut entries[at].1 else { panic!("{path}") };
    insert(below, rest, array);
}

#[test]
fn a_file_holds_the_tensors_of_pytorch() {
    let whole = folder("flax_model.msgpack", &tree(arrays("bert", None)).to_bytes());
    expect_equal(Checkpoint::open(whole.path()).unwrap(), "bert");
    let chunked = folder("flax_model.msgpack", &tree(arrays("bert", Some(64))).to_bytes());
    expect_equal(Checkpoint::open(chunked.path()).unwrap(), "bert");
    let of_training = Node::map([("params", tree(arrays("bert", None)))]);
    let of_training = folder("flax_model.msgpack", &of_training.to_bytes());
    expect_equal(Checkpoint::open(of_training.path()).unwrap(), "bert");
}

#[test]
fn shards_hold_the_tensors_of_pytorch() {
    let mut first = arrays("bert", None);
    let second = first.split_off(first.len() / 2);
    let file_of = |part: usize| format!("flax_model-0000{part}-of-00002.msgpack");
    let entries = |part: usize, arrays: &[(String, Node)]| -> Vec<String> {
        arrays.iter().map(|(name, _)| format!("{name:?}: {:?}", file_of(part))).collect()
    };
    let map = [entries(1, &first), entries(2, &second)].concat().join(", ");
    let dir = folder("flax_model.msgpack.index.json", format!("{{\"weight_map\": {{{map}}}}}").as_bytes());
    std::fs::write(dir.path().join(file_of(1)), tree(first).to_bytes()).unwrap();
    std::fs::write(dir.path().join(file_of(2)), tree(second).to_bytes()).unwrap();
    expect_equal(Checkpoint::open(dir.path()).unwrap(), "bert");
}

#[test]
fn sixteen_bits_are_read() {
    let root = Node::map([
        ("a", Node::Array(vec![2], "bfloat16", vec![0x80, 0x3f, 0x00, 0x40])),
        ("b", Node::Array(vec![2], "float16", vec![0x00, 0x3c, 0x00, 0x40])),
        ("c", Node::Array(vec![], "float64", 3f64.to_le_bytes().to_vec())),
    ]);
    let dir = folder("flax_model.msgpack", &root.to_bytes());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.read_f32("a").unwrap(), [1.0, 2.0]);
    assert_eq!(checkpoint.read_f32("b").unwrap(), [1.0, 2.0]);
    assert_eq!(checkpoint.read_f32("c").unwrap(), [3.0]);
}

#[test]
fn a_file_must_tell_the_truth() {
    let array = |shape: &[usize], dtype, bytes| Node::Array(shape.to_vec(), dtype, vec![0; bytes]);
    let deep = (0..100).fold(array(&[1], "float32", 4), |below, _| Node::map([("a", below)]));
    let chunks = |shape: &[usize], size| Node::Chunked(shape.to_vec(), "float32", vec![0; 16], size);
    for (root, expected) in [
        (Node::map([("a", array(&[3], "float32", 8))]), "tensor a: shape [3] of F32 does not fill its 8 bytes"),
        (Node::map([("a", array(&[1 << 62, 4], "float32", 0))]), "tensor a: shape [4611686018427387904, 4]"),
        (Node::map([("a", array(&[1; 70], "float32", 4))]), "tensor a: it has 70 dimensions"),
        (Node::map([("a", array(&[1], "complex64", 8))]), "tensor a: it is of type \"complex64\""),
        (Node::map([("a", Node::Nothing)]), "tensor a: it is no array"),
        (Node::map([("a", chunks(&[5], 8))]), "tensor a: shape [5] of F32 does not fill its 16 bytes"),
        (deep, "it has more than 64 levels"),
        (Node::Map(vec![("n".repeat(2000), Node::Nothing)]), "it has 2000 bytes in a name"),
        (array(&[1], "float32", 4), "it holds no map"),
    ] {
        let error = error_of("flax_model.msgpack", &root.to_bytes());
        assert!(error.contains(expected), "{error}");
    }
    let whole = Node::map([("a", array(&[2], "float32", 8))]).to_bytes();
    for cut in 1..whole.len() {
        let error = error_of("flax_model.msgpack", &whole[..cut]);
        assert!(error.contains("get it again"), "{error}");
    }
    let error = error_of("flax_model.msgpack", &[whole, vec![0]].concat());
    assert!(error.contains("1 bytes follow the last array"), "{error}");
    // A map that claims four thousand million entries.
    let error = error_of("flax_model.msgpack", &[0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1, b'a']);
    assert!(error.contains("it is truncated"), "{error}");
}

/// For the test that damages files of every format.
pub(in crate::weights) fn small_file() -> Vec<u8> {
    tree(arrays("bert", Some(128))).to_bytes()
}
