//! What one image costs on one core: `cargo bench --bench preprocess` after the tests have made
//! `target/test-images`.

use std::{fs, hint::black_box, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use linesight::imaging::{Limits, Preprocess, PreprocessSpec, Workspace, inspect};

fn preprocess(size: [u32; 2]) -> Preprocess {
    let spec: PreprocessSpec = serde_json::from_value(serde_json::json!({
        "colour": "rgb", "layout": "NCHW", "scale": 1.0 / 255.0,
        "resize": {"mode": "stretch", "size": size, "filter": "bilinear"},
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }))
    .expect("the table is complete");
    Preprocess::from_spec(spec).expect("the table is consistent")
}

fn images(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-images");
    let limits = Limits::default();
    let mut workspace = Workspace::new();
    let model = preprocess([224, 224]);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("training/samples/good.jpg");
    if let Ok(bytes) = fs::read(sample) {
        let vial = preprocess([384, 192]);
        c.bench_function("prepare a vial", |b| {
            b.iter(|| workspace.prepare(black_box(&bytes), &vial, &limits));
        });
    }
    for name in ["420.jpg", "444.jpg", "progressive.jpg", "grey.jpg", "rgb.png", "exif6.jpg"] {
        let Ok(bytes) = fs::read(folder.join(name)) else { continue };
        c.bench_function(&format!("prepare {name}"), |b| {
            b.iter(|| workspace.prepare(black_box(&bytes), &model, &limits));
        });
    }
    let Ok(bytes) = fs::read(folder.join("420.jpg")) else { return };
    let whole = preprocess([1024, 1024]);
    c.bench_function("decode only 420.jpg", |b| {
        b.iter(|| workspace.prepare(black_box(&bytes), &whole, &limits));
    });
    c.bench_function("inspect 420.jpg", |b| b.iter(|| inspect(black_box(&bytes), &limits)));
    let Ok(pixels) = workspace.prepare(&bytes, &model, &limits) else { return };
    let mut row = vec![0.0; model.row_len()];
    c.bench_function("write_row 224", |b| {
        b.iter(|| model.write_row(black_box(&pixels), black_box(&mut row)));
    });
    for name in ["bomb-65535.jpg", "bomb-50k.png", "bomb-scans.jpg"] {
        let Ok(bytes) = fs::read(folder.join(name)) else { continue };
        c.bench_function(&format!("refuse {name}"), |b| {
            b.iter(|| workspace.prepare(black_box(&bytes), &model, &limits));
        });
    }
}

criterion_group!(benches, images);
criterion_main!(benches);
