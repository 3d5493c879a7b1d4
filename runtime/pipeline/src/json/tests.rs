use super::*;

fn line(line: &Line<'_>) -> String {
    let mut out = Vec::new();
    line.write_to(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text:?}");
    text.trim_end().to_owned()
}

fn detection() -> flow::Detection {
    flow::Detection {
        phrase: "a dog".into(),
        score: 0.75,
        bbox: flow::BoundingBox { x0: 1.5, y0: 2.0, x1: 30.25, y1: 40.0 },
        objectness: None,
    }
}

fn caption() -> flow::Caption {
    flow::Caption { text: "a dog\n\"runs\"".into(), tokens: vec![5, 7], logprob: -1.5, score: -1.5, regions: vec![] }
}

/// The contract: whoever changes one of these breaks someone's program.
#[test]
fn the_lines_of_the_commands() {
    let embedding = flow::Embedding { values: vec![0.5, -0.25] };
    let values = r#""model":"nano","dim":2,"values":[0.5,-0.25]}"#;
    assert_eq!(line(&Line::image_embedding("a.jpg", "nano", &embedding)), format!(r#"{{"type":"embedding","image":"a.jpg",{values}"#));
    assert_eq!(line(&Line::text_embedding("a dog", "nano", &embedding)), format!(r#"{{"type":"embedding","text":"a dog",{values}"#));

    let scores = vec![flow::LabelScore { label: "dog".into(), logit: 2.0, score: 0.875 }];
    assert_eq!(
        line(&Line::classification("a.jpg", &flow::Classification { scores })),
        r#"{"type":"classification","image":"a.jpg","scores":[{"label":"dog","logit":2.0,"score":0.875}]}"#
    );
    assert_eq!(
        line(&Line::detections("a.jpg", 640, 480, &[detection()])),
        r#"{"type":"detections","image":"a.jpg","width":640,"height":480,"detections":[{"phrase":"a dog","score":0.75,"box":[1.5,2.0,30.25,40.0]}]}"#
    );
    assert_eq!(
        line(&Line::caption("a.jpg", &caption())),
        r#"{"type":"caption","image":"a.jpg","text":"a dog\n\"runs\"","tokens":[5,7],"logprob":-1.5,"score":-1.5}"#
    );
    let error = flow::SourceError::Picture { path: "b.jpg".into(), reason: "the file is empty".into() };
    assert_eq!(line(&Line::error("b.jpg", &error)), r#"{"type":"error","source":"b.jpg","error":"b.jpg: the file is empty"}"#);
}

#[test]
fn a_frame_has_what_was_asked_for() {
    let mut result = flow::FrameResult {
        meta: flow::FrameMeta { origin: "/dev/video0".into(), sequence: 7, captured_at: Duration::from_micros(12_345_678), dropped: 2 },
        width: 640,
        height: 480,
        age_at_start: Duration::from_micros(1500),
        age_at_end: Duration::from_millis(40),
        embedding: None,
        detections: None,
        caption: None,
    };
    let bare = r#"{"type":"frame","source":"/dev/video0","sequence":7,"width":640,"height":480,"captured_at_ms":12345.678,"age_start_ms":1.5,"age_end_ms":40.0,"dropped":2"#;
    assert_eq!(line(&Line::frame(&result)), format!("{bare}}}"));
    result.embedding = Some(flow::Embedding { values: vec![1.0] });
    result.detections = Some(vec![]);
    result.caption = Some(caption());
    let more = r#","embedding":[1.0],"detections":[],"caption":{"text":"a dog\n\"runs\"","tokens":[5,7],"logprob":-1.5,"score":-1.5}}"#;
    assert_eq!(line(&Line::frame(&result)), format!("{bare}{more}"));
}
