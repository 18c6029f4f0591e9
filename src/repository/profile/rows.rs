//! Rows to run a graph with where it is measured: real ones stacked, or made-up ones.

use std::sync::Arc;

use crate::{
    onnx::{Signature, TensorSpec},
    types::{DType, NamedTensor, Tensor, TensorData},
};

/// Rows told apart by the proof.
pub(in crate::repository) const DISTINCT: usize = 4;

/// `size` rows stacked, the distinct ones over and over.
pub(super) fn stack(rows: &[Vec<NamedTensor>], size: usize) -> Option<Vec<NamedTensor>> {
    let n_inputs = rows.first()?.len();
    let input = |at: usize| {
        let parts: Vec<&Tensor> = rows
            .iter()
            .cycle()
            .take(size)
            .map(|row| row.get(at).map(|it| &it.tensor))
            .collect::<Option<_>>()?;
        let name = Arc::clone(&rows.first()?.get(at)?.name);
        Some(NamedTensor { name, tensor: Tensor::stack(parts)? })
    };
    (0..n_inputs).map(input).collect()
}

/// Bytes of a row of every input; words count as none.
pub(super) fn row_bytes(row: &[NamedTensor]) -> u64 {
    let bytes = |it: &NamedTensor| {
        let data = it.tensor.data();
        let each = match data.dtype() {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::String => 0,
        };
        each * data.len() as u64
    };
    row.iter().map(bytes).sum()
}

/// The shapes of a row, as in `image f32[1, 3, 224, 224]`.
pub(in crate::repository) fn shapes(rows: &[Vec<NamedTensor>]) -> String {
    let shape = |it: &NamedTensor| {
        format!("{} {}{:?}", it.name, it.tensor.data().dtype(), it.tensor.shape())
    };
    let all: Vec<String> = rows.first().into_iter().flatten().map(shape).collect();
    all.join("; ")
}

/// Rows made up from the signature, for a graph that came without samples: every dimension that is
/// open, but for axis 0, becomes `open_dim`; an axis 0 that is fixed keeps its size. The values are
/// arbitrary, differ from row to row, and are the same at every start.
pub(in crate::repository) fn made_up_rows(
    signature: &Signature,
    open_dim: usize,
) -> Option<Vec<Vec<NamedTensor>>> {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut row = || {
        let tensor = |spec: &TensorSpec| {
            let rest = spec.shape.iter().skip(1).map(|it| it.unwrap_or(open_dim));
            let shape: Vec<usize> =
                spec.shape.first().map(|it| it.unwrap_or(1)).into_iter().chain(rest).collect();
            let len = shape.iter().try_fold(1_usize, |all, &dim| all.checked_mul(dim))?;
            // 256 million elements: beyond it a made-up input says nothing, and fills the memory.
            let data = (len <= 1 << 28).then(|| dice.fill(spec.dtype, len))?;
            let tensor = Tensor::new(shape, data).ok()?;
            Some(NamedTensor { name: Arc::clone(&spec.name), tensor })
        };
        signature.inputs.iter().map(tensor).collect()
    };
    (0..DISTINCT).map(|_| row()).collect()
}

/// A small deterministic generator (SplitMix64); the values need only differ.
struct Dice(u64);

impl Dice {
    /// In -1..1.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bits = u16::try_from((z ^ (z >> 31)) >> 48).unwrap_or(0);
        f32::from(bits) / 32_768.0 - 1.0
    }

    /// Numbers in -1..1; whole numbers 0 or 1, which are valid for most indices.
    fn fill(&mut self, dtype: DType, len: usize) -> TensorData {
        macro_rules! whole {
            ($variant:ident) => {
                TensorData::$variant((0..len).map(|_| u8::from(self.unit() > 0.0).into()).collect())
            };
        }
        match dtype {
            DType::F32 => TensorData::F32((0..len).map(|_| self.unit()).collect()),
            DType::F64 => TensorData::F64((0..len).map(|_| self.unit().into()).collect()),
            DType::F16 => {
                TensorData::F16((0..len).map(|_| half::f16::from_f32(self.unit())).collect())
            }
            DType::BF16 => {
                TensorData::BF16((0..len).map(|_| half::bf16::from_f32(self.unit())).collect())
            }
            DType::I8 => TensorData::I8((0..len).map(|_| i8::from(self.unit() > 0.0)).collect()),
            DType::I16 => whole!(I16),
            DType::I32 => whole!(I32),
            DType::I64 => whole!(I64),
            DType::U8 => whole!(U8),
            DType::U16 => whole!(U16),
            DType::U32 => whole!(U32),
            DType::U64 => whole!(U64),
            DType::Bool => TensorData::Bool((0..len).map(|_| self.unit() > 0.0).collect()),
            DType::String => TensorData::String((0..len).map(|_| "a".to_owned()).collect()),
        }
    }
}
