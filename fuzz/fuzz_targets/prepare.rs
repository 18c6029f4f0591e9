//! Any bytes at all: `prepare` answers pixels or an error. Seeds: `target/test-images/seeds`.
#![no_main]

use std::{cell::RefCell, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use linesight::imaging::{Limits, Preprocess, PreprocessSpec, Workspace};

static PREPROCESS: LazyLock<Preprocess> = LazyLock::new(|| {
    let spec: PreprocessSpec = serde_json::from_str(
        r#"{"colour": "rgb", "layout": "NCHW", "alpha": "drop", "scale": 1,
            "resize": {"mode": "shortest", "size": 32, "filter": "bilinear"},
            "crop": {"centre": [32, 32]}, "mean": [0, 0, 0], "std": [1, 1, 1]}"#,
    )
    .expect("the table is complete");
    Preprocess::from_spec(spec).expect("the table is consistent")
});

thread_local! {
    /// Kept from input to input, as in a server: no image may spoil the next.
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new());
}

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { max_pixels: 1_000_000 };
    let prepared = WORKSPACE.with_borrow_mut(|it| it.prepare(bytes, &PREPROCESS, &limits));
    if let Ok(pixels) = prepared {
        let mut row = vec![0.0; PREPROCESS.row_len()];
        PREPROCESS.write_row(&pixels, &mut row);
        assert!(row.iter().all(|it| (0.0..=255.0).contains(it)));
    }
});
