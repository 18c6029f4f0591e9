//! What one image costs on one core: `cargo bench --bench preprocess` after the tests have made
//! `target/test-images`.

use std::{fs, hint::black_box, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use linesight::imaging::{Limits, Preprocess, PreprocessSpec, Workspace, inspect};

fn preprocess(size: [u32; 2], decode: &str) -> Preprocess {
    let spec: PreprocessSpec = serde_json::from_value(serde_json::json!({
        "colour": "rgb", "layout": "NCHW", "decode": decode, "scale": 1.0 / 255.0,
        "resize": {"mode": "stretch", "size": size, "filter": "bilinear"},
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }))
    .expect("the table is complete");
    Preprocess::from_spec(spec).expect("the table is consistent")
}

/// As a lane does it: what is made is handed back once it is done with.
fn prepare(workspace: &mut Workspace, bytes: &[u8], model: &Preprocess) {
    if let Ok(pixels) = workspace.prepare(black_box(bytes), model, &Limits::default()) {
        workspace.reuse(black_box(pixels));
    }
}

fn images(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-images");
    let limits = Limits::default();
    let mut workspace = Workspace::new();
    let [model, scaled] = ["full", "scaled"].map(|it| preprocess([224, 224], it));
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("training/samples/good.jpg");
    if let Ok(bytes) = fs::read(sample) {
        for (decode, name) in [("full", "prepare a vial"), ("scaled", "prepare a vial, scaled")] {
            let vial = preprocess([384, 192], decode);
            c.bench_function(name, |b| {
                b.iter(|| prepare(&mut workspace, &bytes, &vial));
            });
        }
    }
    let photos =
        ["420.jpg", "444.jpg", "2048.jpg", "progressive.jpg", "grey.jpg", "rgb.png", "exif6.jpg"];
    let fewer = ["420.jpg", "2048.jpg", "grey.jpg"];
    let whole = photos.map(|it| (it, "", &model));
    for (name, how, model) in whole.into_iter().chain(fewer.map(|it| (it, ", scaled", &scaled))) {
        let Ok(bytes) = fs::read(folder.join(name)) else { continue };
        c.bench_function(&format!("prepare {name}{how}"), |b| {
            b.iter(|| prepare(&mut workspace, &bytes, model));
        });
    }
    let Ok(bytes) = fs::read(folder.join("420.jpg")) else { return };
    let whole = preprocess([1024, 1024], "full");
    c.bench_function("decode only 420.jpg", |b| {
        b.iter(|| prepare(&mut workspace, &bytes, &whole));
    });
    c.bench_function("inspect 420.jpg", |b| b.iter(|| inspect(black_box(&bytes), &limits)));
    let mut row = vec![0.0; model.row_len()];
    for (name, image) in [("write_row 224", "420.jpg"), ("write_row 224, grey", "grey.jpg")] {
        let Ok(bytes) = fs::read(folder.join(image)) else { continue };
        let Ok(pixels) = workspace.prepare(&bytes, &model, &limits) else { continue };
        c.bench_function(name, |b| {
            b.iter(|| model.write_row(black_box(&pixels), black_box(&mut row)));
        });
    }
    for name in ["bomb-65535.jpg", "bomb-50k.png", "bomb-scans.jpg"] {
        let Ok(bytes) = fs::read(folder.join(name)) else { continue };
        c.bench_function(&format!("refuse {name}"), |b| {
            b.iter(|| prepare(&mut workspace, &bytes, &model));
        });
    }
}

criterion_group!(benches, images);
criterion_main!(benches);
