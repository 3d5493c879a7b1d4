use std::time::Duration;

use ocelli_flow::Caption;

use super::*;

fn frame(origin: &str, sequence: u64, width: u32, height: u32) -> Frame {
    let grey = vec![100; (3 * width * height) as usize];
    Frame::new(width, height, grey, FrameMeta { sequence, ..FrameMeta::still(origin) }).unwrap()
}

fn found(phrase: &str, score: f32, [x0, y0, x1, y1]: [f32; 4]) -> Detection {
    Detection { phrase: phrase.into(), score, bbox: BoundingBox { x0, y0, x1, y1 }, objectness: None }
}

fn result(frame: &Frame, detections: Vec<Detection>, caption: Option<&str>) -> FrameResult {
    FrameResult {
        meta: frame.meta().clone(),
        width: frame.width(),
        height: frame.height(),
        age_at_start: Duration::ZERO,
        age_at_end: Duration::ZERO,
        embedding: None,
        detections: Some(detections),
        caption: caption.map(|text| Caption { text: text.to_owned(), tokens: vec![], logprob: 0.0, score: 0.0, regions: vec![] }),
    }
}

fn pixel(canvas: &Canvas, x: u32, y: u32) -> Colour {
    let at = 3 * (y * canvas.width() + x) as usize;
    [canvas.rgb()[at], canvas.rgb()[at + 1], canvas.rgb()[at + 2]]
}

#[test]
fn boxes_have_their_phrase_s_colour_and_the_caption_its_bar() {
    let folder = tempfile::tempdir().unwrap();
    let mut annotate = Annotate::new(folder.path(), Naming::Sequence).unwrap();
    let frame = frame("a.jpg", 0, 320, 240);
    let detections = vec![found("a dog", 0.9, [20.0, 60.0, 120.0, 200.0]), found("a cat", 0.8, [180.0, 60.0, 300.0, 200.0])];
    let canvas = annotate.draw(&frame, &result(&frame, detections, Some("a dog and a cat")));
    assert_eq!(canvas.width(), 320);
    assert!(canvas.height() > 240);
    // Left edges, at half height; the middle of the box is untouched.
    assert_eq!((pixel(&canvas, 20, 130), pixel(&canvas, 180, 130), pixel(&canvas, 70, 130)), (PALETTE[0], PALETTE[1], [100; 3]));
    assert_eq!(pixel(&canvas, 319, canvas.height() - 1), BAR);
    // The colour stays with the phrase, whatever else is found.
    let later = annotate.draw(&frame, &result(&frame, vec![found("a cat", 0.8, [180.0, 60.0, 300.0, 200.0])], None));
    assert_eq!((pixel(&later, 180, 130), later.height()), (PALETTE[1], 240));
}

#[test]
fn any_size_and_any_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut annotate = Annotate::new(folder.path(), Naming::Sequence).unwrap();
    let long = "a very long phrase that cannot fit ".repeat(300);
    for (width, height) in [(1, 1), (5, 300), (300, 5), (64, 64)] {
        let frame = frame("tiny.png", 0, width, height);
        let (w, h) = (width as f32, height as f32);
        let detections =
            vec![found(&long, 1.0, [0.0, 0.0, w, h]), found("", 0.0, [w, h, w, h]), found("\u{1F41D} é", 0.5, [0.0, 0.0, 1.0, 1.0])];
        let canvas = annotate.draw(&frame, &result(&frame, detections, Some("short words, wrapped")));
        assert_eq!((canvas.width(), canvas.rgb().len() as u32), (width, 3 * width * canvas.height()));
    }
}

#[test]
fn names_follow_the_origin_and_do_not_collide() {
    let folder = tempfile::tempdir().unwrap();
    let mut annotate = Annotate::new(folder.path(), Naming::Origin).unwrap();
    for (origin, sequence) in [("p/cat.png", 0), ("q/cat.jpg", 1), ("p/cat.png", 2), ("q/cat.jpg", 3)] {
        let frame = frame(origin, sequence, 30, 20);
        annotate.result(&frame, &result(&frame, vec![], None)).unwrap();
    }
    let mut camera = Annotate::new(folder.path(), Naming::Sequence).unwrap();
    let frame = frame("/dev/video0", 7, 30, 20);
    camera.result(&frame, &result(&frame, vec![], None)).unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["cat-1.jpg", "cat.jpg", "video0-000007.jpg"]);
    assert_eq!(image::image_dimensions(folder.path().join("cat.jpg")).unwrap(), (30, 20));
}

#[test]
fn originals_are_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("cat.jpg");
    fs::write(&original, b"mine").unwrap();
    let mut annotate = Annotate::new(folder.path(), Naming::Origin).unwrap();
    let frame = frame(original.to_str().unwrap(), 0, 30, 20);
    let said = annotate.result(&frame, &result(&frame, vec![], None)).unwrap_err().to_string();
    assert!(said.contains("another folder"), "{said}");
    assert_eq!(fs::read(&original).unwrap(), b"mine");
}

/// For a look at the drawing: `cargo test -p ocelli-pipeline -- --ignored looks`, with a folder to write to in OCELLI_LOOKS.
#[test]
#[ignore = "writes pictures for people to look at"]
fn looks() {
    let folder = std::env::var("OCELLI_LOOKS").unwrap();
    let frames = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/frames");
    let mut annotate = Annotate::new(Path::new(&folder), Naming::Origin).unwrap();
    for (name, width, height) in [("cat", 224, 224), ("coffee", 640, 427), ("temple", 1920, 1080), ("rocket", 3840, 2160)] {
        let picture = image::open(frames.join(format!("{name}.jpg"))).unwrap();
        let picture = picture.resize_exact(width, height, image::imageops::FilterType::Triangle).into_rgb8();
        let frame = Frame::new(width, height, picture.into_raw(), FrameMeta::still(format!("somewhere/{name}.png"))).unwrap();
        let (w, h) = (width as f32, height as f32);
        let at = |x0: f32, y0: f32, x1: f32, y1: f32| [x0 * w, y0 * h, x1 * w, y1 * h];
        let detections = vec![
            found("the whole thing", 0.97, at(0.0, 0.0, 1.0, 1.0)),
            found("a red cup", 0.81, at(0.1, 0.3, 0.6, 0.9)),
            found("a saucer", 0.8, at(0.1, 0.3, 0.7, 0.95)),
            found("something small", 0.33, at(0.8, 0.05, 0.87, 0.12)),
            found("something with a rather long description at the right", 0.28, at(0.7, 0.5, 0.99, 0.8)),
        ];
        let caption = "a caption of one sentence, long enough that it must be wrapped on smaller pictures, naïve café included";
        annotate.result(&frame, &result(&frame, detections, Some(caption))).unwrap();
    }
}
