//! One open session: named buffers in, named tensors out, no copy of the inputs.

use std::{borrow::Cow, fmt, path::PathBuf, sync::Arc};

use ort::{
    session::{RunOptions, SessionInputValue},
    value::{DynValue, TensorElementType, TensorRef},
};

use super::{arena::arena_bytes, shared_session::SharedSession};
use crate::{
    batch::{ExecuteError, Executor, Feed, Interrupter, Site},
    types::{DType, NamedTensor, Tensor, TensorData},
};

/// An open session. It computes on the thread that calls it, and on more where it was opened so.
pub struct OrtExecutor {
    session: SharedSession,
    site: Site,
    options: Arc<Options>,
}

/// The options of every run of one session, by which a run can be ended.
struct Options(RunOptions);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Options")
    }
}

impl Interrupter for Options {
    fn reset(&self) {
        if let Err(error) = self.0.unterminate() {
            tracing::error!(%error, "a run that was ended may end the next");
        }
    }

    fn interrupt(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::error!(%error, "a run cannot be ended");
        }
    }
}

impl fmt::Debug for OrtExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrtExecutor")
    }
}

impl OrtExecutor {
    pub(super) fn new(session: SharedSession, site: Site) -> ort::Result<Self> {
        Ok(Self { session, site, options: Arc::new(Options(RunOptions::new()?)) })
    }

    /// Ends the tracing of a session that was opened with it; the file that holds the trace.
    pub(super) fn end_trace(mut self) -> ort::Result<PathBuf> {
        self.session.with_dependent_mut(|_, it| it.end_profiling()).map(PathBuf::from)
    }

    /// Bytes of working memory it has taken, which it keeps until it is dropped: they grow with the
    /// largest run. `None` where ONNX Runtime keeps no count.
    #[must_use]
    pub fn arena_bytes(&self) -> Option<u64> {
        arena_bytes(self.session.borrow_dependent(), self.site)
    }
}

impl Executor for OrtExecutor {
    fn execute(
        &mut self,
        inputs: &[Feed<'_>],
        outputs: &[Arc<str>],
    ) -> Result<Vec<NamedTensor>, ExecuteError> {
        let feeds = inputs
            .iter()
            .map(|it| Ok((Cow::Borrowed(it.name), value_of(it)?)))
            .collect::<Result<Vec<_>, ort::Error>>()
            .map_err(|it| in_words(&it))?;
        let options = &self.options.0;
        self.session.with_dependent_mut(|_, session| {
            let values = session.run_with_options(feeds, options).map_err(|it| in_words(&it))?;
            let output = |name: &Arc<str>| {
                let missing = || ExecuteError(format!("there is no output named {name}"));
                let value = values.get(&**name).ok_or_else(missing)?;
                Ok(NamedTensor { name: Arc::clone(name), tensor: tensor_of(value)? })
            };
            outputs.iter().map(output).collect()
        })
    }

    fn interrupter(&self) -> Option<Arc<dyn Interrupter>> {
        Some(Arc::<Options>::clone(&self.options))
    }
}

fn in_words(error: &ort::Error) -> ExecuteError {
    ExecuteError(error.message().to_owned())
}

/// Defines the conversions, one arm per type that both sides have.
macro_rules! conversions {
    ($($variant:ident = $onnx:ident),* $(,)?) => {
        /// Our name of an ONNX Runtime element type; `None` for those without a tensor of ours.
        pub(super) fn dtype_of(ty: TensorElementType) -> Option<DType> {
            match ty {
                $(TensorElementType::$onnx => Some(DType::$variant),)*
                TensorElementType::String => Some(DType::String),
                // Complex numbers, 8-bit floats and 4-bit integers.
                _ => None,
            }
        }

        /// A view of a lane's buffer; only strings are copied.
        fn value_of<'a>(feed: &Feed<'a>) -> ort::Result<SessionInputValue<'a>> {
            match feed.data {
                $(TensorData::$variant(data) => {
                    Ok(TensorRef::from_array_view((feed.shape, data.as_slice()))?.into())
                })*
                TensorData::String(data) => {
                    let tensor = ort::value::Tensor::from_string_array((feed.shape, data.as_slice()))?;
                    Ok(tensor.into())
                }
            }
        }

        /// A copy of an output.
        fn tensor_of(value: &DynValue) -> Result<Tensor, ExecuteError> {
            let ty = value.dtype().tensor_type();
            let dims = |shape: &[i64]| -> Vec<usize> {
                // The dimensions of a value, unlike those of a signature, are never negative.
                shape.iter().map(|it| usize::try_from(*it).unwrap_or(0)).collect()
            };
            let (shape, data) = match ty {
                $(Some(TensorElementType::$onnx) => {
                    let (shape, data) = value.try_extract_tensor().map_err(|it| in_words(&it))?;
                    (dims(shape), TensorData::$variant(data.to_vec()))
                })*
                Some(TensorElementType::String) => {
                    let (shape, data) = value.try_extract_strings().map_err(|it| in_words(&it))?;
                    (dims(shape), TensorData::String(data))
                }
                _ => return Err(ExecuteError(format!("an output is a {}", value.dtype()))),
            };
            Tensor::new(shape, data).map_err(|it| ExecuteError(it.to_string()))
        }
    };
}

conversions! {
    F32 = Float32, F64 = Float64, F16 = Float16, BF16 = Bfloat16,
    I8 = Int8, I16 = Int16, I32 = Int32, I64 = Int64,
    U8 = Uint8, U16 = Uint16, U32 = Uint32, U64 = Uint64,
    Bool = Bool,
}
