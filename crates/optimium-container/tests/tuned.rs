//! What was tuned, in a folder: found again, and passed over where it is damaged.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Temporary, golden, overwrite, read_json, reseal, same};
use optimium_container::{
    PackedBlocks, Tuned, TunedMachine, check_tunable, inspect, open, open_packed, save, save_packed,
    save_tuned, verify,
};
use optimium_tensor::ErrorKind;
use optimium_testing::each_case;

const FILE: &str = "tuned.json";

fn tuned(name: &str) -> Tuned {
    let choices = BTreeMap::from([("кот \"\n".to_owned(), name.to_owned())]);
    let mut tuned = Tuned::default();
    let (cpu, target, precision) = ("cpu".into(), "here".into(), "f32".into());
    tuned.set(TunedMachine { cpu, target, threads: 2, precision, choices });
    tuned
}

fn packed<'a>(target: &str, bytes: &'a [u8]) -> PackedBlocks<'a> {
    PackedBlocks { target: target.into(), blocks: vec![("block".into(), bytes)] }
}

#[test]
fn what_is_stored_is_found_again() {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    save_packed(&golden(), &folder, &[packed("here", &[1; 64]), packed("there", &[2; 64])]).unwrap();
    let mapped = open(&folder, None).unwrap();
    for (choice, bytes) in [("first", [3; 128]), ("second", [4; 128])] {
        check_tunable(&folder).unwrap();
        save_tuned(&folder, &tuned(choice), &[packed("here", &bytes)]).unwrap();
        verify(&folder).unwrap();
        assert_eq!(temporary.names(), ["model"]);
        let opened = open_packed(&folder, None, Some("here")).unwrap();
        same(&opened.graph, &golden()).unwrap();
        assert_eq!(opened.tuned, tuned(choice));
        assert_eq!(opened.packed.unwrap().places["block"].len(), 128);
        assert_eq!(
            open_packed(&folder, None, Some("there")).unwrap().packed.unwrap().places["block"].len(),
            64
        );
    }
    same(&mapped, &golden()).unwrap();
    let roles: Vec<String> = inspect(&folder).unwrap().files.into_iter().map(|file| file.role).collect();
    assert_eq!(roles, ["graph", "weights", "packed", "packed", "tuned"]);
    save_tuned(&folder, &tuned("third"), &[]).unwrap();
    assert_eq!(open_packed(&folder, None, Some("here")).unwrap().packed.unwrap().places["block"].len(), 128);
    save(&golden(), &folder).unwrap();
    assert_eq!(open_packed(&folder, None, None).unwrap().tuned, Tuned::default());
}

#[test]
fn damage_is_passed_over() {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    save(&golden(), &folder).unwrap();
    let cases: [(&str, &[u8]); 7] = [
        ("nothing", b""),
        ("no JSON", b"tuned"),
        ("no text", b"\xff\xfe"),
        ("another version", br#"{"version":2,"machines":[]}"#),
        ("no machines", br#"{"version":1,"machines":7}"#),
        (
            "negative threads",
            br#"{"version":1,"machines":[{"cpu":"","target":"","threads":-1,"precision":"","choices":{}}]}"#,
        ),
        ("deep", &[b'['; 100_000]),
    ];
    each_case(cases, |&(_, text)| {
        save_tuned(&folder, &tuned("whole"), &[]).map_err(|error| error.to_string())?;
        fs::write(folder.join(FILE), text).map_err(|error| error.to_string())?;
        if open(&folder, None).err().map(|error| error.kind()) != Some(ErrorKind::Container) {
            return Err("a file of another size is opened".into());
        }
        reseal(&folder);
        let opened = open_packed(&folder, None, None).map_err(|error| error.to_string())?;
        same(&opened.graph, &golden())?;
        if opened.tuned != Tuned::default() || verify(&folder).is_ok() {
            return Err("the damage is not noticed".into());
        }
        save_tuned(&folder, &tuned("again"), &[]).map_err(|error| error.to_string())?;
        verify(&folder).map_err(|error| error.to_string())
    });
    fs::write(folder.join(FILE), fs::read_to_string(folder.join(FILE)).unwrap().replace("again", "other"))
        .unwrap();
    assert_eq!(open_packed(&folder, None, None).unwrap().tuned, Tuned::default());
}

#[test]
fn folders_that_are_not_understood_are_not_changed() {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let _ = fs::remove_dir_all(&folder);
        save(&golden(), &folder).unwrap();
        let mut manifest = read_json(&folder.join("manifest.json"));
        change(&mut manifest);
        overwrite(&folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap());
        let before = fs::read(folder.join("manifest.json")).unwrap();
        let error = save_tuned(&folder, &tuned("x"), &[]).unwrap_err();
        let foreseen = check_tunable(&folder).unwrap_err();
        assert_eq!((foreseen.kind(), foreseen.message()), (error.kind(), error.message()));
        assert_eq!(fs::read(folder.join("manifest.json")).unwrap(), before);
        error.kind()
    };
    assert_eq!(changed(&|manifest| manifest["version"]["minor"] = 99.into()), ErrorKind::Container);
    assert_eq!(changed(&|manifest| manifest["encryption"] = "some".into()), ErrorKind::NotImplemented);
    assert_eq!(changed(&|manifest| manifest["files"][0]["size"] = 1.into()), ErrorKind::Container);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(save_tuned(&folder, &tuned("x"), &[]).unwrap_err().kind(), ErrorKind::Container);
    save(&golden(), &folder).unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    assert_eq!(save_tuned(&folder, &tuned("x"), &[]).unwrap_err().kind(), ErrorKind::Container);
    assert!(folder.join("notes.txt").exists());
}

#[test]
fn a_folder_that_is_replaced_meanwhile_can_be_opened() {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    let blocks = [vec![1u8; 64], vec![2u8; 4096]];
    save_packed(&golden(), &folder, &[packed("here", &blocks[0])]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..150 {
                let text = "x".repeat(1 + round % 7);
                save_tuned(&folder, &tuned(&text), &[packed("here", &blocks[round % 2])]).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) && !writer.is_finished() {
            let opened = open_packed(&folder, None, Some("here")).unwrap();
            same(&opened.graph, &golden()).unwrap();
            let stored = opened.packed.expect("packed weights of one of the folders");
            let length = stored.places["block"].len();
            assert!(blocks.iter().any(|block| block.len() == length), "{length} bytes");
        }
    });
}
