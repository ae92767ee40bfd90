//! Messages of Google's protocol buffers, as far as files for TensorBoard and Weights & Biases need them: some twenty fields,
//! written by hand in place of a protobuf runtime and generated code.

/// A message in the making; the first argument of each method is the field's number.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// What is written of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// An integer, which must not be negative, a choice, or a truth value.
    pub fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    /// A `double`.
    pub fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    /// A `float`.
    pub fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    /// A string, or bytes.
    pub fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    /// A message within this one.
    pub fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_encoded_as_protobuf() {
        // Checked against tensorboard.compat.proto.event_pb2.Event(wall_time=1.5, step=300, summary=…).
        let mut event = Message::default();
        event.double(1, 1.5);
        event.varint(2, 300);
        let mut value = Message::default();
        value.bytes(1, b"train/loss");
        value.float(2, 0.25);
        let mut summary = Message::default();
        summary.message(1, &value);
        event.message(5, &summary);
        let hex: String = event.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "09000000000000f83f10ac022a130a110a0a747261696e2f6c6f7373150000803e");
    }
}
