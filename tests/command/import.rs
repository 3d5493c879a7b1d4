//! `ocelli import`: what it says, what it refuses, and how much memory it takes.

use std::fs;
use std::path::Path;

use ocelli_bundle::Bundle;
use serde_json::json;
use tempfile::tempdir;

use crate::checkpoints::{Checkpoint, pickle, pytorch_legacy, pytorch_zip};
use crate::program::{ocelli, text};

#[test]
fn a_checkpoint_becomes_a_bundle() {
    let (source, folder) = (tempdir().unwrap(), tempdir().unwrap());
    Checkpoint::clip().write(source.path());
    let output = folder.path().join("tiny.ocelli");
    let said = ocelli(["import", text(source.path()), "-o", text(&output), "--name", "tiny", "--json", "--dtype", "int8"]).good();
    let line = &said.lines_of("imported")[0];
    assert_eq!((line["model"].as_str(), line["family"].as_str(), line["dtype"].as_str()), (Some("tiny"), Some("clip"), Some("int8")));
    assert_eq!(line["bytes"].as_u64(), Some(fs::metadata(&output).unwrap().len()));
    assert!(said.stderr.contains("names no licence"), "{said:?}");
    let inspected = ocelli(["inspect", "--verify", text(&output)]).good();
    assert!(inspected.stdout.contains("tiny"), "{inspected:?}");

    let again = ["import", text(source.path()), "-o", text(&output)];
    ocelli(again).refused(&["tiny.ocelli", "--force"]);
    assert_eq!(Bundle::open(&output).unwrap().manifest().name, "tiny", "it stays as it was");
    let forced = ocelli(again.into_iter().chain(["--force", "--quiet"])).good();
    assert!(forced.stdout.contains("million parameters as f32") && forced.stderr.is_empty(), "{forced:?}");
}

#[test]
fn every_form_is_read() {
    let (clip, old, folder) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let file = Checkpoint::open_clip().write(clip.path());
    Checkpoint::clip().describe(old.path());
    let bin = old.path().join("pytorch_model.bin");
    fs::write(&bin, pytorch_legacy(&Checkpoint::clip().tensors)).unwrap();
    for (i, (path, class)) in [(clip.path(), "open_clip"), (file.as_path(), "open_clip"), (bin.as_path(), "CLIPModel")].iter().enumerate() {
        let output = folder.path().join(format!("{i}.ocelli"));
        let said = ocelli(["import", text(path), "-o", text(&output), "--json"]).good();
        assert_eq!(said.lines()[0]["class"].as_str(), Some(*class));
        ocelli(["embed", "-m", text(&output), "--text", "ab"]).good();
    }
}

#[test]
fn what_is_wrong_is_said_in_one_sentence() {
    let (source, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let checkpoint = Checkpoint::clip();
    let file = checkpoint.write(source.path());
    let output = folder.path().join("tiny.ocelli");
    let import = |path: &Path| ocelli(["import", text(path), "-o", text(&output)]);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    import(source.path()).refused(&["model.safetensors", "cut short", "download"]);
    fs::write(&file, [(1u64 << 60).to_le_bytes().as_slice(), b"{}"].concat()).unwrap();
    import(source.path()).refused(&["model.safetensors", "1152921504606846976"]);
    fs::remove_file(&file).unwrap();
    let bomb = pickle::call(&pickle::global("os", "system"), &[pickle::text("exit 7")]);
    fs::write(source.path().join("pytorch_model.bin"), pytorch_zip(&checkpoint.tensors, vec![(pickle::text("x"), bomb)])).unwrap();
    import(source.path()).refused(&["pytorch_model.bin", "os.system", "code"]);
    import(&source.path().join("nowhere")).refused(&["nowhere", "no such file"]);
    ocelli(["import", text(source.path()), "-o", "/nowhere/x.ocelli"]).refused(&["/nowhere", "no folder"]);
    ocelli(["import", text(source.path()), "-o", text(folder.path()), "--force"]).refused(&["folder"]);
    ocelli(["import", text(source.path()), "-o", text(&output), "--dtype", "int3"]).refused(&["int3"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

/// The shape of CLIP ViT-B/32: 605 MB in single precision, of which a block of rows at a time may be on the heap.
#[test]
#[cfg(target_os = "linux")]
fn a_large_checkpoint_does_not_need_its_size_in_memory() {
    use std::io::{Seek, SeekFrom, Write};
    use std::process::Stdio;

    let (source, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let mut config = Checkpoint::clip().config;
    config["projection_dim"] = json!(512);
    let tower =
        |width: usize| json!({"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 12, "num_attention_heads": 8});
    (config["text_config"], config["vision_config"]) = (tower(512), tower(768));
    config["vision_config"]["patch_size"] = json!(32);
    config["vision_config"]["image_size"] = json!(224);
    let declared = ocelli_models::plan::Declared::new(&config, ocelli_models::plan::Format::Transformers);
    let rows = ocelli_models::registry::plan(&declared).unwrap().rows;
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for piece in rows.iter().flat_map(|row| &row.pieces) {
        let start = end;
        end += 4 * piece.shape.iter().product::<usize>();
        header.insert(piece.name.clone(), json!({"dtype": "F32", "shape": piece.shape, "data_offsets": [start, end]}));
    }
    let small = Checkpoint { config, ..Checkpoint::clip() };
    small.describe(source.path());
    // A file with a hole in it: zeros that are nowhere on the disk.
    let header = serde_json::Value::Object(header).to_string();
    let mut file = fs::File::create(source.path().join("model.safetensors")).unwrap();
    file.write_all(&[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    file.seek(SeekFrom::Current(end as i64 - 1)).unwrap();
    file.write_all(&[0]).unwrap();
    drop(file);
    assert!(end > 600_000_000, "{end} bytes");

    let output = folder.path().join("large.ocelli");
    let mut command = crate::program::command(["import", text(source.path()), "-o", text(&output), "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut peak, mut seen) = (0, 0);
    let ended = loop {
        // Memory of its own: pages of the mapped checkpoint are the system's.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("RssAnon:")) {
            peak = peak.max(line.trim_matches(['\t', ' ', 'k', 'B']).parse::<u64>().unwrap() * 1024);
            seen += 1;
        }
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(ended.success(), "{ended:?}");
    assert!(fs::metadata(&output).unwrap().len() > 600_000_000);
    assert!(seen > 20 && peak > 0, "{seen} looks at its memory");
    assert!(peak < 64_000_000, "{peak} bytes");
}
