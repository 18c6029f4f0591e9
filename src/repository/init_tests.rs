//! What is scaffolded passes the check, whatever the signature.

use proptest::prelude::*;

use super::*;
use crate::repository::{Manifest, ModelConfig, Task};

fn tensor(name: &str, dtype: DType, dims: &[Option<usize>]) -> TensorSignature {
    TensorSignature { name: name.into(), dtype, dims: dims.to_vec() }
}

#[track_caller]
fn check(inputs: &[TensorSignature], outputs: &[TensorSignature]) -> Manifest {
    let texts = scaffold(&"m".parse().unwrap(), inputs, outputs);
    ModelConfig::parse("m/model.toml", texts.model_toml.as_bytes()).unwrap();
    Manifest::parse("m/1/package.toml", texts.package_toml.as_bytes()).unwrap()
}

#[test]
fn an_image_classifier_is_recognised() {
    let shape = |dims: &[Option<usize>], outputs: &[TensorSignature]| {
        let manifest = check(&[tensor("x", DType::F32, dims)], outputs);
        let shape = manifest.preprocess.map(|it| it.output_shape());
        (manifest.labels.len(), shape)
    };
    let logits = [tensor("logits", DType::F32, &[None, Some(3)])];
    let square = [None, Some(3), Some(224), Some(224)];
    assert_eq!(shape(&square, &logits), (3, Some([3, 224, 224])));
    assert_eq!(shape(&[None, Some(3), None, None], &logits), (3, Some([3, 224, 224])));
    assert_eq!(shape(&[None, Some(3), Some(96), Some(64)], &logits), (3, Some([3, 96, 64])));
    assert_eq!(shape(&[None, Some(96), Some(64), Some(3)], &logits), (3, Some([96, 64, 3])));
    let many = [tensor("logits", DType::F32, &[None, Some(1000)])];
    assert_eq!(shape(&square, &many).0, 1000);

    let two = [
        tensor("embedding", DType::F32, &[None, Some(1280)]),
        tensor("prob\"s\n", DType::F32, &[None, Some(2)]),
        tensor("cam", DType::F32, &[None, Some(2), None, None]),
    ];
    let outputs = check(&[tensor("x", DType::F32, &square)], &two).outputs.unwrap();
    assert_eq!(&*outputs.scores, "prob\"s\n");
    assert_eq!(outputs.activation, crate::decide::Activation::None);
    assert_eq!(
        (outputs.cam.as_deref(), outputs.embedding.as_deref()),
        (Some("cam"), Some("embedding"))
    );
}

#[test]
fn anything_else_is_served_as_tensors() {
    let square = [None, Some(3), Some(224), Some(224)];
    let image = tensor("x", DType::F32, &square);
    let logits = tensor("logits", DType::F32, &[None, Some(3)]);
    let cases: [(&[TensorSignature], &[TensorSignature]); 7] = [
        (&[], &[]),
        (&[image.clone(), image.clone()], std::slice::from_ref(&logits)),
        (&[tensor("x", DType::I64, &square)], std::slice::from_ref(&logits)),
        (&[tensor("x", DType::F32, &[None, Some(3)])], std::slice::from_ref(&logits)),
        (&[tensor("x", DType::F32, &[None, Some(1), None, None])], std::slice::from_ref(&logits)),
        (std::slice::from_ref(&image), &[tensor("logits", DType::F32, &[None, None])]),
        (std::slice::from_ref(&image), &[tensor("boxes", DType::F32, &[None, Some(100), Some(4)])]),
    ];
    for (inputs, outputs) in cases {
        assert_eq!(check(inputs, outputs).task, Task::Tensors);
    }
}

#[test]
fn nobodys_file_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("package.toml");
    write_new(&path, b"mine").unwrap();
    assert_eq!(write_new(&path, b"yours").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

proptest! {
    #[test]
    fn every_signature_gives_texts_that_pass(
        name in ".{0,20}",
        dims in prop::collection::vec(prop::option::of(0_usize..5000), 0..5),
        out in prop::collection::vec(prop::option::of(0_usize..50), 0..4),
        out_name in ".{1,20}",
    ) {
        check(&[tensor(&name, DType::F32, &dims)], &[tensor(&out_name, DType::F32, &out)]);
    }
}
