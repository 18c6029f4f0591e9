//! What is approved, and everything that is not: scores, NaN, missing evidence, views of an item.

use serde_json::{Value, json};

use crate::support::{
    client::{Answer, Request, post, verdict_of},
    colours::{GREEN, GREY, Golden, NO_IMAGE, RED, png, scores, softmax, three, verdict},
    models::{Repository, colour_manifest},
    server::Server,
};

/// A green that is approved, and not the same picture as `GREEN`.
const LIGHT_GREEN: [u8; 3] = [10, 255, 10];

fn inspect(model: &str, views: &[(&str, [u8; 3])]) -> Request {
    let pngs: Vec<_> = views.iter().map(|(name, colour)| (*name, png(*colour))).collect();
    let files: Vec<_> = pngs.iter().map(|(name, png)| (*name, *name, png.as_slice())).collect();
    Request::form(&format!("/v1/models/{model}/inspect"), &files)
}

#[track_caller]
fn assert_one_item(answer: &Answer, verdict: &str) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["items"].as_array().unwrap().len(), 1, "{body}");
    assert_eq!(verdict_of(&body["items"][0]), verdict, "{body}");
    body["items"][0].clone()
}

#[test]
fn scores_and_thresholds_decide() {
    let models = Repository::empty();
    models.proven("colour", "");
    let server = Server::ready(models.path());
    let mut seen = std::collections::BTreeSet::new();
    for colour in [
        GREEN,
        LIGHT_GREEN,
        RED,
        GREY,
        [0, 0, 255],
        [0, 0, 0],
        [255, 255, 255],
        // On both sides of each threshold, by little.
        [0, 73, 0],
        [0, 75, 0],
        [17, 0, 0],
        [19, 0, 0],
    ] {
        let answer = server.send(&post("/v1/models/colour/predict", png(colour)));
        let expected = verdict(scores(colour));
        let item = assert_one_item(&answer, expected);
        assert!(item["verdict"]["detail"].is_string(), "{item}");
        seen.insert(expected);
    }
    assert_eq!(seen.len(), 3, "every decision was tried");
}

#[test]
fn not_a_number_is_never_approved() {
    let models = Repository::empty();
    // Logarithms of the means less a tenth, so darker than that is not a number.
    let answer_to = |colour: [u8; 3]| {
        let scores = softmax(colour.map(|it| (f64::from(it) / 255.0 - 0.1).ln()));
        let [r, g, b] = colour;
        let (file, verdict) = (format!("{r}-{g}-{b}.png"), Some(verdict(scores)));
        Golden { file, image: png(colour), scores, verdict }
    };
    let bright = [30, 255, 30];
    let manifest = colour_manifest(true);
    models.proven_by("nan/1", "colour_nan", &manifest, &[answer_to(bright)]);
    let server = Server::ready(models.path());
    let predict = "/v1/models/nan/predict";
    assert_one_item(&server.send(&post(predict, png(bright))), "approve/ok");

    for colour in [GREEN, [0, 0, 0], [20, 255, 255]] {
        let answer = server.send(&post(predict, png(colour)));
        assert_eq!(answer.status, 500, "{colour:?}: {}", answer.text());
        assert_eq!(answer.json()["code"], "output_invalid");
        assert_eq!(answer.verdict(0), "undecided/output_invalid");
    }
    // Beside an image that can be judged, it is an item like any other; without one, the 500 wins
    // over the 422 of an image that cannot be read.
    let (good, dark) = (png(bright), png(GREEN));
    let files = [("a", "a", &good[..]), ("b", "b", &dark[..]), ("c", "c", NO_IMAGE)];
    let answer = server.send(&Request::form(predict, &files));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.verdict(0), "approve/ok");
    assert_eq!(answer.verdict(1), "undecided/output_invalid");
    assert_eq!(answer.verdict(2), "undecided/image_unreadable");
    let answer = server.send(&Request::form(predict, &[files[2], files[1]]));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (500, Some("output_invalid")));
    assert_eq!(answer.verdict(0), "undecided/image_unreadable");
}

#[test]
fn without_golden_samples_or_a_policy_there_is_no_verdict() {
    let models = Repository::empty();
    models.colour("unproven", "colour", &colour_manifest(true), "");
    let mut no_policy = three();
    no_policy.iter_mut().for_each(|it| it.verdict = None);
    models.proven_by("no_policy/1", "colour", &colour_manifest(false), &no_policy);
    let server = Server::ready(models.path());
    for (model, evidence) in [("unproven", "none"), ("no_policy", "golden")] {
        let answer = server.send(&post(&format!("/v1/models/{model}/predict"), png(GREEN)));
        let item = assert_one_item(&answer, "null");
        assert_eq!(item["label"], "green");
        assert_eq!(answer.json()["model"]["evidence"], evidence);
        // An image it cannot judge is undecided all the same.
        let answer = server.send(&post(&format!("/v1/models/{model}/predict"), NO_IMAGE));
        assert_eq!(answer.verdict(0), "undecided/image_unreadable");
        let detail = server.json(&format!("/v1/models/{model}/versions/1"));
        assert_eq!((&detail["verdicts"], &detail["evidence"]), (&json!(false), &json!(evidence)));
    }
    server.logged_that(
        "has a decision policy but no golden samples: it serves without verdicts",
        |it| it["model"] == "unproven",
    );
}

/// A model whose items have the views that `[item]` says, and one that declares none.
fn with_views(views: &str) -> (Repository, Server) {
    let models = Repository::empty();
    let manifest = format!("{}\n[item]\nviews = {views}\n", colour_manifest(true));
    models.proven_by("vial/1", "colour", &manifest, &three());
    models.proven("colour", "");
    let server = Server::ready(models.path());
    (models, server)
}

#[test]
fn an_item_is_approved_only_if_all_its_views_are() {
    let (_models, server) = with_views("[\"v0\", \"v1\"]");
    let ask = |views: &[(&str, [u8; 3])]| server.send(&inspect("vial", views));
    let two = |a, b| ask(&[("v0", a), ("v1", b)]);

    let item = assert_one_item(&two(GREEN, LIGHT_GREEN), "approve/ok");
    let views = item["views"].as_array().unwrap();
    assert_eq!((&views[0]["view"], &views[1]["view"]), (&json!("v0"), &json!("v1")));
    assert!(views.iter().all(|it| verdict_of(it) == "approve/ok"), "{item}");
    let item = assert_one_item(&two(GREEN, RED), "reject/defect");
    assert_eq!(item["verdict"]["class"], "red");
    assert_one_item(&two(RED, GREEN), "reject/defect");
    assert_one_item(&two(RED, GREY), "reject/defect");
    assert_one_item(&two(GREEN, GREY), "undecided/low_confidence");

    let views: [&[_]; 5] = [
        &[("v0", GREEN)],
        &[("v1", GREEN)],
        &[("v0", GREEN), ("v1", LIGHT_GREEN), ("v2", [0, 250, 0])],
        &[("v0", GREEN), ("left", LIGHT_GREEN)],
        // Twice the same picture proves nothing about the other side.
        &[("v0", GREEN), ("v1", GREEN)],
    ];
    for views in views {
        assert_one_item(&ask(views), "undecided/views");
    }
    for views in [&[("v0", GREEN), ("v0", LIGHT_GREEN)][..], &[("", GREEN), ("v1", LIGHT_GREEN)]] {
        let answer = ask(views);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["code"], "views_invalid");
        assert_eq!(answer.verdict(0), "undecided/request_invalid");
    }
    // A view that cannot be read leaves the item undecided, unless another rejects it; none that
    // can be read is an error.
    let (green, red) = (png(GREEN), png(RED));
    let form = |a: &[u8], b: &[u8]| {
        server.send(&Request::form("/v1/models/vial/inspect", &[("v0", "", a), ("v1", "", b)]))
    };
    assert_one_item(&form(&green, NO_IMAGE), "undecided/image_unreadable");
    assert_one_item(&form(NO_IMAGE, &red), "reject/defect");
    let answer = form(NO_IMAGE, &[0xff, 0xd8, 0xff]);
    assert!(answer.status >= 400, "{}", answer.text());
    assert_eq!(answer.verdict(0), "undecided/image_unreadable");

    // Views of one item are of one acquisition, and the item has one name.
    let view = |name: &str, colour, acquisition: &str| {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        json!({"view": name, "acquisition_id": acquisition,
            "base64": BASE64_STANDARD.encode(png(colour))})
    };
    let list = |a: &str, b: &str| {
        let images = [view("v0", GREEN, a), view("v1", LIGHT_GREEN, b)];
        Request::json("/v1/models/vial/inspect", &json!({"images": images}))
            .header("X-Item-Id", "vial-7")
    };
    let item = assert_one_item(&server.send(&list("shot", "shot")), "approve/ok");
    assert_eq!((&item["item_id"], &item["acquisition_id"]), (&json!("vial-7"), &json!("shot")));
    let answer = server.send(&list("shot", "other"));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("views_invalid")));

    // Without [item] there is nothing to inspect.
    let answer = server.send(&inspect("colour", &[("v0", GREEN)]));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("no_item")));
}

#[test]
fn one_view_alone_can_reject_an_item_of_several_but_never_approve_it() {
    let (_models, server) = with_views("2");
    for (colour, expected) in
        [(GREEN, "undecided/views"), (GREY, "undecided/views"), (RED, "reject/defect")]
    {
        let answer = server.send(&post("/v1/models/vial/predict", png(colour)));
        assert_one_item(&answer, expected);
    }
    // Counted views take any two distinct names.
    let answer = server.send(&inspect("vial", &[("left", GREEN), ("right", LIGHT_GREEN)]));
    assert_one_item(&answer, "approve/ok");
    let labels = "decision=\"approve\",model=\"vial\",reason=\"ok\",version=\"1\"";
    assert_eq!(server.metric(&format!("linesight_verdicts_total{{{labels}}}")), 1);
    // The item was counted, its views were not.
    assert_eq!(
        server.metric("linesight_items_total{model=\"vial\",outcome=\"ok\",version=\"1\"}"),
        4
    );
}

#[test]
fn the_flagship_judges_its_samples() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let server = Server::ready(&root.join("models"));
    for (sample, expected, class) in [
        ("good.jpg", "approve/ok", json!("good")),
        ("particle.jpg", "reject/defect", json!("particle")),
        ("chips_cracks.jpg", "reject/defect", json!("chips_cracks")),
    ] {
        let image = std::fs::read(root.join("training/samples").join(sample)).unwrap();
        let curl = post("/v1/models/vial-defect/predict", image)
            .header("Content-Type", "application/x-www-form-urlencoded");
        let item = assert_one_item(&server.send(&curl), expected);
        assert_eq!(item["label"], class, "{sample}: {item}");
    }
    let model = server.json("/v1/models/vial-defect");
    let versions = model["versions"].as_array().unwrap();
    let serving = versions.iter().find(|it| it["state"] == "serving");
    assert_eq!(serving.unwrap()["evidence"], "golden", "{model}");
}
