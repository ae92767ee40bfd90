//! rng_state.pth: the generators of `random`, `numpy` and `torch`, all three a Mersenne Twister. There are none here, whose
//! every draw is a function of the seed and the position, so what Python goes on with is drawn from those.

use lm_random::{Purpose, Stream};

use super::torch_save::{Value, Values};

/// 32-bit words of a Mersenne Twister (MT19937).
const WORDS: usize = 624;

/// What the file holds after `step`. The words are drawn as they are, in place of what a seed would make of them, and come
/// just before the next generation of words is made.
pub(super) fn value(seed: u64, step: u64) -> Value<'static> {
    let words = |generator: u64| {
        let mut stream = Stream::new(seed, Purpose::Python, generator, step);
        std::iter::repeat_with(move || stream.next_u32()).take(WORDS)
    };
    let ints = |generator: u64| words(generator).map(|word| Value::Int(i64::from(word)));
    let position = || Value::Int(WORDS as i64);
    // `random.getstate()`: version, words and position, a second normal number that waits.
    let python = vec![Value::Int(3), Value::Tuple(ints(0).chain([position()]).collect()), Value::None];
    // `numpy.random.get_state()`, the words in a list: where numpy 2 finds the class of an array numpy 1 has none.
    let numpy = [Value::Text("MT19937".to_owned()), Value::List(ints(1).collect()), position()];
    let numpy = numpy.into_iter().chain([Value::Int(0), Value::Float(0.0)]).collect();
    let cpu = torch(seed, words(2));
    let cpu = Value::Tensor(vec![cpu.len()], Values::Uint8(Box::new(move || Ok(cpu.clone()))));
    let entries = [("python", Value::Tuple(python)), ("numpy", Value::Tuple(numpy)), ("cpu", cpu)];
    Value::Dict(entries.map(|(name, value)| (name.to_owned(), value)).into())
}

/// `torch.get_rng_state()`, the bytes of `THGeneratorStateNew` (aten/src/ATen/CPUGeneratorImpl.cpp).
fn torch(seed: u64, words: impl Iterator<Item = u32>) -> Vec<u8> {
    // One word is left before the next generation, which begins at word 0.
    let (left, seeded, next) = (1_u32, 1_u32, 0_u64);
    let mut bytes = [seed.to_le_bytes(), (u64::from(seeded) << 32 | u64::from(left)).to_le_bytes()].concat();
    bytes.extend(next.to_le_bytes());
    bytes.extend(words.flat_map(|word| u64::from(word).to_le_bytes()));
    // No normal numbers wait, in double and in single precision.
    bytes.extend([0; 40]);
    bytes
}

#[cfg(test)]
mod tests {
    use lm_models::weights::{PickleValue, TorchFile};

    use super::super::torch_save;
    use super::*;

    /// What Python's three modules take, other numbers for each and for each step.
    #[test]
    fn states_have_pythons_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let states = [7, 8].map(|step| {
            let path = folder.path().join("rng_state.pth");
            torch_save::save(&path, "rng_state", &value(42, step)).expect("written");
            let file = TorchFile::open(&path).expect("a file of torch.save");
            let PickleValue::Dict(values) = file.values() else { panic!("{:?}", file.values()) };
            let tuple = |name: &str| match &values[name] {
                PickleValue::List(values) => values.clone(),
                other => panic!("{name}: {other:?}"),
            };
            let ints = |value: &PickleValue| match value {
                PickleValue::List(values) => values.iter().map(int).collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            };
            let (python, numpy) = (tuple("python"), tuple("numpy"));
            assert_eq!((python.len(), int(&python[0]), numpy.len(), int(&numpy[2])), (3, 3, 5, 624));
            assert!(
                matches!((&python[2], &numpy[0]), (PickleValue::None, PickleValue::String(name)) if name == "MT19937")
            );
            let (mut python, numpy) = (ints(&python[1]), ints(&numpy[1]));
            assert_eq!(python.pop(), Some(624));
            let cpu = file.read_u8("cpu").expect("a tensor of bytes");
            assert_eq!((file.shape("cpu"), &cpu[..8]), (Some(&[5056][..]), &42_u64.to_le_bytes()[..]));
            let words = cpu[24..24 + 8 * WORDS].as_chunks::<8>().0.iter();
            [python, numpy, words.map(|bytes| i64::from_le_bytes(*bytes)).collect()]
        });
        let all = states.as_flattened();
        for (index, words) in all.iter().enumerate() {
            assert!(words.len() == WORDS && words.iter().all(|word| (0..1 << 32).contains(word)));
            assert!(!all[..index].contains(words));
        }
    }

    fn int(value: &PickleValue) -> i64 {
        match value {
            PickleValue::Int(value) => *value,
            other => panic!("{other:?}"),
        }
    }
}
