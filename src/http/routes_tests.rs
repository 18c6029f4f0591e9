//! Holds router, [`super::ROUTES`], openapi.json and the codes equal to each other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Code, OPENAPI, ROUTES};

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn the_document_describes_every_route_and_no_other() {
    let document = document();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|it| (path.clone(), it.to_uppercase())).collect::<Vec<_>>()
        })
        .collect();
    let routes =
        ROUTES.iter().map(|(path, method)| ((*path).to_owned(), (*method).to_owned())).collect();
    assert_eq!(described, routes);
}

#[test]
fn the_document_lists_every_code() {
    let document = document();
    let listed: Vec<_> = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    let codes: Vec<_> = Code::ALL.iter().map(|it| it.as_str()).collect();
    assert_eq!(listed, codes);
    let predict = &document["paths"]["/v1/models/{model}/predict"]["post"]["responses"];
    for code in Code::ALL {
        assert!(predict.get(code.status().to_string()).is_some(), "{}", code.as_str());
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    if let Some(reference) = value.get("$ref") {
        into.extend(reference.as_str());
    }
    if let Some(object) = value.as_object() {
        object.values().for_each(|it| collect(it, into));
    }
    if let Some(array) = value.as_array() {
        array.iter().for_each(|it| collect(it, into));
    }
}
