//! Rows in, rows out: gathers the items of a run into one feed per input, and deals the outputs out.

use std::sync::Arc;

use super::{
    executor::{ExecuteError, Feed},
    job::Content,
    runtime::ImageInput,
};
use crate::types::{NamedTensor, Tensor, TensorData};

/// A lane's buffer for the pictures of a run, used again from run to run.
#[derive(Debug)]
pub(super) struct Rows {
    shape: Vec<usize>,
    data: TensorData,
}

impl Default for Rows {
    fn default() -> Self {
        Self { shape: Vec::new(), data: TensorData::F32(Vec::new()) }
    }
}

/// The inputs of a run: borrowed where they can be, stacked where they must be.
#[derive(Debug)]
pub(super) enum Feeds<'a> {
    /// Pictures, gathered in the lane's buffer.
    Pictures { name: &'a str, rows: &'a Rows },
    /// One item's own tensors.
    Single(&'a [NamedTensor]),
    /// Several items' tensors, stacked.
    Stacked(Vec<NamedTensor>),
}

impl Feeds<'_> {
    /// One feed per input.
    pub(super) fn borrow(&self) -> Vec<Feed<'_>> {
        fn feed(NamedTensor { name, tensor }: &NamedTensor) -> Feed<'_> {
            Feed { name, shape: tensor.shape(), data: tensor.data() }
        }
        match self {
            Self::Pictures { name, rows } => {
                vec![Feed { name, shape: &rows.shape, data: &rows.data }]
            }
            Self::Single(tensors) => tensors.iter().map(feed).collect(),
            Self::Stacked(tensors) => tensors.iter().map(feed).collect(),
        }
    }
}

/// Gathers the contents of a run. They are all pictures or all tensors, as the batch key says.
pub(super) fn feeds<'a>(
    contents: &[&'a Content],
    image: Option<&'a ImageInput>,
    rows: &'a mut Rows,
) -> Result<Feeds<'a>, ExecuteError> {
    match (contents, image) {
        ([Content::Tensors(tensors)], _) => Ok(Feeds::Single(tensors)),
        ([Content::Tensors(first), ..], _) => stack(first, contents).map(Feeds::Stacked),
        (_, Some(image)) => {
            fill(contents, image, rows)?;
            Ok(Feeds::Pictures { name: &image.input, rows })
        }
        (_, None) => Err(ExecuteError("pictures for a version that takes none".to_owned())),
    }
}

/// Normalises each picture into its row of the buffer.
fn fill(contents: &[&Content], image: &ImageInput, rows: &mut Rows) -> Result<(), ExecuteError> {
    let row_len = image.preprocess.row_len();
    rows.shape.clear();
    rows.shape.push(contents.len());
    rows.shape.extend(image.preprocess.output_shape());
    if !matches!(rows.data, TensorData::F32(_)) {
        rows.data = TensorData::F32(Vec::new());
    }
    let TensorData::F32(buffer) = &mut rows.data else {
        return Err(ExecuteError("the gather buffer is not f32".to_owned()));
    };
    // Every element is written below, so what is left from the run before does not matter.
    buffer.resize(contents.len() * row_len, 0.0);
    for (content, row) in contents.iter().zip(buffer.chunks_exact_mut(row_len)) {
        let Content::Pixels(pixels) = content else {
            return Err(ExecuteError("an item of the run is not decoded".to_owned()));
        };
        image.preprocess.write_row(pixels, row);
    }
    Ok(())
}

fn stack(first: &[NamedTensor], contents: &[&Content]) -> Result<Vec<NamedTensor>, ExecuteError> {
    let input = |(at, name): (usize, &Arc<str>)| {
        let parts: Option<Vec<&Tensor>> = contents
            .iter()
            .map(|it| match it {
                Content::Tensors(tensors) => tensors.get(at).map(|it| &it.tensor),
                Content::Pixels(_) | Content::Compressed { .. } | Content::Away => None,
            })
            .collect();
        let tensor = parts.and_then(Tensor::stack);
        let mismatch = || ExecuteError(format!("the rows of input {name} cannot be stacked"));
        Ok(NamedTensor { name: Arc::clone(name), tensor: tensor.ok_or_else(mismatch)? })
    };
    first.iter().map(|it| &it.name).enumerate().map(input).collect()
}

/// Deals the outputs of a run out to its items, `rows` of axis 0 each. A single item gets them
/// whole, whatever their shape; several share them only if axis 0 is the rows of the run.
pub(super) fn scatter(
    outputs: Vec<NamedTensor>,
    rows: &[usize],
) -> Result<Vec<Vec<NamedTensor>>, ExecuteError> {
    if rows.len() == 1 {
        return Ok(vec![outputs]);
    }
    let total: usize = rows.iter().sum();
    if let Some(odd) = outputs.iter().find(|it| it.tensor.shape().first() != Some(&total)) {
        let (name, shape) = (&odd.name, odd.tensor.shape());
        let problem = format!("output {name} has shape {shape:?} for a run of {total} rows");
        return Err(ExecuteError(problem));
    }
    let mut start = 0;
    let mut deal = |n: &usize| {
        let range = start..start + n;
        start = range.end;
        let part = |it: &NamedTensor| NamedTensor {
            name: Arc::clone(&it.name),
            tensor: it.tensor.rows(range.clone()),
        };
        outputs.iter().map(part).collect()
    };
    Ok(rows.iter().map(&mut deal).collect())
}
