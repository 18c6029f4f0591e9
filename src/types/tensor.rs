//! A named buffer of any ONNX type whose length always equals its shape.

use half::{bf16, f16};

/// Calls `$then!` with every `(variant, element type, ONNX name)` there is; the one list of types.
macro_rules! for_each_dtype {
    ($then:ident) => {
        $then! {
            F32, f32, "f32"; F64, f64, "f64"; F16, f16, "f16"; BF16, bf16, "bf16";
            I8, i8, "i8"; I16, i16, "i16"; I32, i32, "i32"; I64, i64, "i64";
            U8, u8, "u8"; U16, u16, "u16"; U32, u32, "u32"; U64, u64, "u64";
            Bool, bool, "bool"; String, String, "string"
        }
    };
}

macro_rules! define {
    ($($variant:ident, $element:ty, $name:literal);*) => {
        /// An element type of ONNX tensors.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each variant is the type it names")]
        pub enum DType { $($variant),* }

        impl DType {
            /// The name used in answers and messages, such as `f32`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        /// The elements of a tensor, row-major.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "each variant is the type it names")]
        pub enum TensorData { $($variant(Vec<$element>)),* }

        impl TensorData {
            /// The element type.
            #[must_use]
            pub fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant),* }
            }

            /// How many elements there are.
            #[must_use]
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(it) => it.len()),* }
            }

            /// No elements, with room for `capacity`.
            #[must_use]
            pub fn with_capacity(dtype: DType, capacity: usize) -> Self {
                match dtype { $(DType::$variant => Self::$variant(Vec::with_capacity(capacity))),* }
            }

            /// A copy of the elements in `range`.
            ///
            /// # Panics
            /// If the range reaches beyond the end.
            #[must_use]
            pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
                match self { $(Self::$variant(it) => Self::$variant(it[range].to_vec())),* }
            }

            /// Appends all of `other`; says whether the types agreed (if not, nothing is appended).
            #[must_use]
            pub fn append(&mut self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$variant(a), Self::$variant(b)) => { a.extend_from_slice(b); true })*
                    _ => false,
                }
            }
        }
    };
}
for_each_dtype!(define);

impl TensorData {
    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Data and shape disagree, or cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of elements is not the product of the dimensions.
    #[error("shape {shape:?} needs {expected} elements, {found} were given")]
    Length {
        /// The shape as given.
        shape: Vec<usize>,
        /// The product of its dimensions.
        expected: usize,
        /// The elements there are.
        found: usize,
    },
    /// The product of the dimensions does not fit this machine's word.
    #[error("shape {shape:?} is too large")]
    Overflow {
        /// The shape as given.
        shape: Vec<usize>,
    },
}

/// A dense tensor: row-major data of any ONNX type, with a shape that fits it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

impl Tensor {
    /// Puts a shape on data.
    ///
    /// # Errors
    /// When the number of elements is not the product of the dimensions.
    pub fn new(shape: Vec<usize>, data: impl Into<TensorData>) -> Result<Self, TensorError> {
        let data = data.into();
        let product = shape.iter().try_fold(1_usize, |all, &dim| all.checked_mul(dim));
        let Some(expected) = product else { return Err(TensorError::Overflow { shape }) };
        if expected != data.len() {
            return Err(TensorError::Length { shape, expected, found: data.len() });
        }
        Ok(Self { shape, data })
    }

    /// The dimensions, outermost first. A scalar has none.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    #[must_use]
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements if they are `f32`.
    #[must_use]
    pub fn as_f32(&self) -> Option<&[f32]> {
        if let TensorData::F32(data) = &self.data { Some(data) } else { None }
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Size of axis 0; 1 for a scalar.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// A copy of rows `range` of axis 0.
    ///
    /// # Panics
    /// If the range reaches beyond the last row.
    #[must_use]
    pub fn rows(&self, range: std::ops::Range<usize>) -> Self {
        let row: usize = self.shape.iter().skip(1).product();
        let data = self.data.slice(range.start * row..range.end * row);
        let mut shape = self.shape.clone();
        if let Some(n) = shape.first_mut() {
            *n = range.len();
        }
        Self { shape, data }
    }

    /// Stacks tensors along axis 0. `None` if there are none, or type or other dimensions differ.
    #[must_use]
    pub fn stack<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut all = parts.next()?.clone();
        for part in parts {
            if part.shape.get(1..)? != all.shape.get(1..)? || !all.data.append(&part.data) {
                return None;
            }
            all.shape[0] += part.shape[0];
        }
        Some(all)
    }
}

impl From<Vec<f32>> for TensorData {
    fn from(data: Vec<f32>) -> Self {
        Self::F32(data)
    }
}

impl From<Vec<i64>> for TensorData {
    fn from(data: Vec<i64>) -> Self {
        Self::I64(data)
    }
}

/// A tensor under the name of a model's input or output.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The input's or output's name in the graph.
    pub name: std::sync::Arc<str>,
    /// Its value.
    pub tensor: Tensor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_must_fit_its_data() {
        assert!(Tensor::new(vec![2, 3], vec![0.0_f32; 6]).is_ok());
        assert!(matches!(
            Tensor::new(vec![2, 3], vec![0.0_f32; 5]),
            Err(TensorError::Length { expected: 6, found: 5, .. })
        ));
        assert!(matches!(
            Tensor::new(vec![usize::MAX, 2], vec![0.0_f32]),
            Err(TensorError::Overflow { .. })
        ));
    }

    #[test]
    fn stacking_then_taking_rows_gives_the_parts_back() {
        let a = Tensor::new(vec![1, 2], vec![1.0_f32, 2.0]).unwrap();
        let b = Tensor::new(vec![2, 2], vec![3.0_f32, 4.0, 5.0, 6.0]).unwrap();
        let both = Tensor::stack([&a, &b]).unwrap();
        assert_eq!(both.shape(), [3, 2]);
        assert_eq!(both.rows(0..1), a);
        assert_eq!(both.rows(1..3), b);
        let other = Tensor::new(vec![1, 2], vec![1_i64, 2]).unwrap();
        assert_eq!(Tensor::stack([&a, &other]), None);
    }
}
