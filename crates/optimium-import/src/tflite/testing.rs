//! What the tests of the TFLite reader share: a writer of small flatbuffers.

/// What a field of a table holds.
#[derive(Clone, Debug)]
pub(super) enum Field {
    I8(i8),
    U32(u32),
    I32(i32),
    F32(f32),
    Bytes(Vec<u8>),
    I32s(Vec<i32>),
    I64s(Vec<i64>),
    F32s(Vec<f32>),
    Table(Fields),
    Tables(Vec<Fields>),
}

/// A table: its fields by number.
pub(super) type Fields = Vec<(usize, Field)>;

/// A flatbuffer with that root, in the format's order: offsets lead forward, and so children follow their parents.
pub(super) fn flatbuffer(root: &Fields) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(super::IDENTIFIER);
    let position = table(&mut bytes, root);
    bytes[..4].copy_from_slice(&(position as u32).to_le_bytes());
    bytes
}

fn table(bytes: &mut Vec<u8>, fields: &Fields) -> usize {
    let slots = fields.iter().map(|(index, _)| index + 1).max().unwrap_or(0);
    let vtable = bytes.len();
    bytes.extend(((4 + 2 * slots) as u16).to_le_bytes());
    bytes.extend(((4 + 4 * fields.len()) as u16).to_le_bytes());
    bytes.resize(bytes.len() + 2 * slots, 0);
    let position = bytes.len();
    bytes.extend(((position - vtable) as i32).to_le_bytes());
    bytes.resize(position + 4 + 4 * fields.len(), 0);
    for (place, (index, field)) in fields.iter().enumerate() {
        let offset = 4 + 4 * place;
        bytes[vtable + 4 + 2 * index..][..2].copy_from_slice(&(offset as u16).to_le_bytes());
        let at = position + offset;
        let inline = match field {
            Field::I8(value) => i32::from(*value) as u32,
            Field::U32(value) => *value,
            Field::I32(value) => *value as u32,
            Field::F32(value) => value.to_bits(),
            child => (write(bytes, child) - at) as u32,
        };
        bytes[at..at + 4].copy_from_slice(&inline.to_le_bytes());
    }
    position
}

/// Writes what is not inside of the table itself.
fn write(bytes: &mut Vec<u8>, field: &Field) -> usize {
    if let Field::Table(fields) = field {
        return table(bytes, fields);
    }
    let (count, content): (usize, Vec<u8>) = match field {
        Field::Bytes(values) => (values.len(), values.clone()),
        Field::I32s(values) => (values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Field::I64s(values) => (values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Field::F32s(values) => (values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Field::Tables(tables) => (tables.len(), vec![0; 4 * tables.len()]),
        _ => (0, Vec::new()),
    };
    let start = bytes.len();
    bytes.extend((count as u32).to_le_bytes());
    bytes.extend(content);
    if let Field::Tables(tables) = field {
        for (index, fields) in tables.iter().enumerate() {
            let at = start + 4 + 4 * index;
            let distance = (table(bytes, fields) - at) as u32;
            bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
    }
    start
}

/// A tensor of a model.
#[derive(Clone, Debug)]
pub(super) struct TestTensor {
    pub(super) dims: Vec<i32>,
    /// As the format numbers them: 0 is F32, 1 F16, 2 I32, 9 I8.
    pub(super) element_type: i8,
    pub(super) content: Vec<u8>,
    /// Scales and zero points, and their axis.
    pub(super) quantization: Option<(Vec<f32>, Vec<i64>, i32)>,
}

/// An F32 tensor.
pub(super) fn float(dims: &[i32]) -> TestTensor {
    TestTensor { dims: dims.to_vec(), element_type: 0, content: Vec::new(), quantization: None }
}

/// An F32 constant.
pub(super) fn floats(dims: &[i32], values: &[f32]) -> TestTensor {
    let content = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TestTensor { content, ..float(dims) }
}

/// An I32 constant.
pub(super) fn integers(dims: &[i32], values: &[i32]) -> TestTensor {
    let content = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TestTensor { element_type: 2, content, ..float(dims) }
}

/// A model of one operator: tensor 0 is the input, the last one the output, all before the last are operands.
pub(super) fn model(code: i32, options: Fields, tensors: &[TestTensor]) -> Vec<u8> {
    let last = tensors.len() as i32 - 1;
    let mut buffers = vec![Vec::new()];
    let mut tables = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        let mut fields = vec![
            (0, Field::I32s(tensor.dims.clone())),
            (1, Field::I8(tensor.element_type)),
            (3, Field::Bytes(format!("t{index}").into_bytes())),
            (7, Field::I32s(tensor.dims.clone())),
        ];
        if !tensor.content.is_empty() {
            fields.push((2, Field::U32(buffers.len() as u32)));
            buffers.push(vec![(0, Field::Bytes(tensor.content.clone()))]);
        }
        if let Some((scales, zeros, axis)) = &tensor.quantization {
            let quantization = vec![
                (2, Field::F32s(scales.clone())),
                (3, Field::I64s(zeros.clone())),
                (6, Field::I32(*axis)),
            ];
            fields.push((4, Field::Table(quantization)));
        }
        tables.push(fields);
    }
    let operator = vec![
        (0, Field::U32(0)),
        (1, Field::I32s((0..last).collect())),
        (2, Field::I32s(vec![last])),
        (4, Field::Table(options)),
    ];
    let subgraph = vec![
        (0, Field::Tables(tables)),
        (1, Field::I32s(vec![0])),
        (2, Field::I32s(vec![last])),
        (3, Field::Tables(vec![operator])),
    ];
    let root = vec![
        (0, Field::U32(3)),
        (1, Field::Tables(vec![vec![(3, Field::I32(code))]])),
        (2, Field::Tables(vec![subgraph])),
        (4, Field::Tables(buffers)),
    ];
    flatbuffer(&root)
}
