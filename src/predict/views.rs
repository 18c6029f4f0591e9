//! Several pictures of one item: asked together, one verdict.

use super::{
    error::ItemError,
    input::Image,
    outcome::{ItemOutcome, ItemTiming, Judged},
};
use crate::{
    decide::{self, DeclaredViews, ViewVerdict},
    repository::ServingModel,
    types::{ItemId, Reason, Verdict},
};

/// Why the pictures cannot be the views of one item, if they cannot: missing, extra, identical.
pub(super) fn mismatch(declared: &DeclaredViews, images: &[Image]) -> Option<String> {
    let names: Vec<String> = (0..images.len()).map(|it| name(images, it)).collect();
    if let Some(complaint) = declared.mismatch(names.iter().map(String::as_str)) {
        return Some(complaint);
    }
    for (at, image) in images.iter().enumerate() {
        let twin = images.iter().take(at).position(|it| it.bytes == image.bytes);
        if let Some(twin) = twin {
            let (a, b) = (name(images, twin), name(images, at));
            return Some(format!("views {a:?} and {b:?} are the same picture"));
        }
    }
    None
}

/// A view without a name is called by its place.
fn name(images: &[Image], at: usize) -> String {
    images.get(at).and_then(|it| it.view.clone()).unwrap_or_else(|| at.to_string())
}

/// The item of these views, none of which was looked at.
pub(super) fn not_looked_at(model: &ServingModel, images: &[Image], why: String) -> ItemOutcome {
    let gives_verdicts = model.gives_verdicts();
    let verdict = gives_verdicts.then(|| Verdict::undecided(Reason::Views, why));
    let result = Ok(Judged { verdict, ..Judged::default() });
    let first = images.first();
    let mut item = item(first.and_then(|it| it.item_id.clone()), result, Vec::new());
    item.acquisition_id = first.and_then(|it| it.acquisition_id.clone());
    item
}

/// Joins judged views into their item.
pub(super) fn join(
    model: &ServingModel,
    declared: &DeclaredViews,
    item_id: Option<ItemId>,
    mut views: Vec<ItemOutcome>,
) -> ItemOutcome {
    for (at, view) in views.iter_mut().enumerate() {
        view.view.get_or_insert_with(|| at.to_string());
    }
    let judged = views.iter().any(|it| it.result.is_ok());
    let first_error = views.iter().find_map(|it| it.result.as_ref().err().cloned());
    let result = match (judged, first_error) {
        (false, Some(error)) => Err(error),
        (true, _) | (false, None) => {
            let verdict =
                model.gives_verdicts().then(|| decide::aggregate(declared, &said(&views)));
            Ok(Judged { verdict, ..Judged::default() })
        }
    };
    item(item_id, result, views)
}

fn said(views: &[ItemOutcome]) -> Vec<ViewVerdict<'_>> {
    let of_view = |it: &ItemOutcome| -> Result<Verdict, Reason> {
        match &it.result {
            Ok(Judged { verdict: Some(verdict), .. }) => Ok(verdict.clone()),
            Ok(Judged { verdict: None, .. }) => Err(Reason::OutputInvalid),
            Err(error) => Err(error.reason()),
        }
    };
    views
        .iter()
        .map(|it| ViewVerdict {
            name: it.view.as_deref().unwrap_or_default(),
            verdict: of_view(it),
        })
        .collect()
}

fn item(
    item_id: Option<ItemId>,
    result: Result<Judged, ItemError>,
    views: Vec<ItemOutcome>,
) -> ItemOutcome {
    let acquisition_id = views.iter().find_map(|it| it.acquisition_id.clone());
    ItemOutcome {
        item_id: item_id.unwrap_or_else(ItemId::unique),
        acquisition_id,
        view: None,
        file: None,
        result,
        timing: slowest(&views),
        views,
    }
}

/// The views are asked side by side: the item took as long as the slowest of each stage.
fn slowest(views: &[ItemOutcome]) -> ItemTiming {
    views.iter().map(|it| it.timing).fold(ItemTiming::default(), |a, b| ItemTiming {
        decode: a.decode.max(b.decode),
        queue: a.queue.max(b.queue),
        batch_size: a.batch_size.max(b.batch_size),
        infer: a.infer.max(b.infer),
    })
}
