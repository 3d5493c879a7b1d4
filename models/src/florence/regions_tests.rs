use super::*;

const SIZE: [u32; 2] = [1000, 500];

fn read(answer: &str, kind: Answer) -> Vec<(String, [f32; 4])> {
    let banned = ["it".to_owned()];
    let rules = Rules { size: SIZE, banned: &banned, least_area: 0.0 };
    let found = regions(answer, kind, &rules);
    for region in &found {
        let b = region.bbox;
        assert!(0.0 <= b.x0 && b.x0 <= b.x1 && b.x1 <= 1000.0 && 0.0 <= b.y0 && b.y0 <= b.y1 && b.y1 <= 500.0, "{answer}: {region:?}");
        assert!(region.locations.end <= locations(answer).len());
    }
    found.into_iter().map(|region| (region.label, [region.bbox.x0, region.bbox.y0, region.bbox.x1, region.bbox.y1])).collect()
}

fn named(label: &str, corners: [f32; 4]) -> (String, [f32; 4]) {
    (label.to_owned(), corners)
}

#[test]
fn boxes_have_the_words_before_them() {
    let answer = "</s><s>a bus<loc_10><loc_20><loc_500><loc_999> two dogs <loc_1><loc_2><loc_3><loc_4><loc_5><loc_6><loc_7><loc_8></s>";
    let expected =
        [named("a bus", [10.0, 10.0, 500.0, 499.0]), named("two dogs", [1.0, 1.0, 3.0, 2.0]), named("two dogs", [5.0, 3.0, 7.0, 4.0])];
    assert_eq!(read(answer, Answer::Boxes), expected);
    assert_eq!(read(answer, Answer::Phrases), expected);
    assert_eq!(read("it<loc_1><loc_2><loc_3><loc_4>", Answer::Phrases), []);
    assert_eq!(read("naïve<loc_1><loc_2><loc_3><loc_4>", Answer::Boxes), [named("nave", [1.0, 1.0, 3.0, 2.0])]);
    assert_eq!(read(answer, Answer::Text), []);
}

#[test]
fn proposals_have_no_words() {
    let answer = "<s><loc_1><loc_2><loc_3><loc_4>word<loc_5><loc_6><loc_7><loc_8><loc_9>";
    assert_eq!(read(answer, Answer::Proposals), [named("", [1.0, 1.0, 3.0, 2.0]), named("", [5.0, 3.0, 7.0, 4.0])]);
}

#[test]
fn quadrilaterals_have_boxes_around_them() {
    let answer = "EXIT 5<loc_100><loc_200><loc_300><loc_190><loc_310><loc_400><loc_90><loc_410>naïf<loc_1><loc_1><loc_2><loc_1><loc_2><loc_2><loc_1><loc_2>";
    let expected = [named("EXIT 5", [90.0, 95.0, 310.0, 205.0]), named("naïf", [1.0, 0.0, 2.0, 1.0])];
    assert_eq!(read(answer, Answer::Quadrilaterals), expected);
    let rules = Rules { size: SIZE, banned: &[], least_area: 0.01 };
    assert_eq!(regions(answer, Answer::Quadrilaterals, &rules).len(), 1);
    // A text is whatever stands before eight locations, other locations included, but not the line before.
    let answer = "<loc_9>a\nb<loc_1><loc_1><loc_1><loc_1><loc_1><loc_1><loc_1><loc_1>";
    assert_eq!(read(answer, Answer::Quadrilaterals), [named("b", [1.0, 0.0, 1.0, 0.0])]);
}

#[test]
fn polygons_have_boxes_around_them() {
    let answer = "a cat<poly><loc_1><loc_2><loc_30><loc_40><sep><loc_50><loc_60><loc_7><loc_8></poly><poly><loc_9><loc_9></poly>";
    let expected = [named("a cat", [1.0, 1.0, 50.0, 30.0]), named("a cat", [9.0, 4.0, 9.0, 4.0])];
    assert_eq!(read(answer, Answer::BoxesOrPolygons), expected);
    assert_eq!(read("a cat<loc_1><loc_2><loc_3><loc_4>", Answer::BoxesOrPolygons), [named("a cat", [1.0, 1.0, 3.0, 2.0])]);
}

#[test]
fn scores_are_means_of_probabilities() {
    let answer = "<loc_9>a<loc_1><loc_2><loc_3><loc_4><loc_5><loc_6><loc_7><loc_8>";
    let rules = Rules { size: SIZE, banned: &[], least_area: 0.0 };
    let found = regions(answer, Answer::Boxes, &rules);
    let probabilities = [0.01f32, 0.5, 0.5, 0.5, 0.5, 0.9, 0.4, 0.9, 0.4];
    let logprobs = probabilities.map(f32::ln);
    let scores: Vec<f32> = found.iter().map(|region| score(region, answer, &logprobs)).collect();
    assert!(scores.len() == 2 && (scores[0] - 0.5).abs() < 1e-6 && (scores[1] - 0.6).abs() < 1e-6, "{scores:?}");
    assert_eq!(score(&found[0], answer, &logprobs[1..]), 1.0);
}

#[test]
fn what_is_malformed_is_passed_over() {
    let boxes = |answer| read(answer, Answer::Boxes);
    assert_eq!(boxes("a<loc_1><loc_2><loc_3>"), []);
    // Of five locations the last belongs to nothing.
    assert_eq!(boxes("a<loc_1><loc_2><loc_3><loc_4><loc_5>"), [named("a", [1.0, 1.0, 3.0, 2.0])]);
    assert_eq!(boxes(" <loc_1><loc_2><loc_3><loc_4>"), [named("", [1.0, 1.0, 3.0, 2.0])]);
    assert_eq!(boxes("<loc_1><loc_2><loc_3><loc_4>"), []);
    // Corners in the wrong order, and beyond the picture.
    assert_eq!(boxes("a<loc_5><loc_6><loc_3><loc_4>"), [named("a", [3.0, 2.0, 5.0, 3.0])]);
    assert_eq!(boxes("a<loc_1><loc_1><loc_7777><loc_99999999999999999999>"), [named("a", [1.0, 0.0, 1000.0, 500.0])]);
    assert_eq!(boxes("line\nbreak<loc_1><loc_2><loc_3><loc_4>"), []);
    assert_eq!(boxes("a<loc_1><loc_x><loc_3><loc_4><loc_><loc_5"), []);
    let kinds = [Answer::Text, Answer::Boxes, Answer::Phrases, Answer::Proposals, Answer::Quadrilaterals, Answer::BoxesOrPolygons];
    let parts = ["<", ">", "<loc_1>", "<loc_", "12", "é", "<poly>", "</poly>", "<sep>", "a", "\n", "<s>", " "];
    let mut state = 1u64;
    for _ in 0..20_000 {
        let mut answer = String::new();
        for _ in 0..state % 23 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            answer.push_str(parts[(state >> 33) as usize % parts.len()]);
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state = state.rotate_left(17);
        for kind in kinds {
            read(&answer, kind);
        }
    }
}
