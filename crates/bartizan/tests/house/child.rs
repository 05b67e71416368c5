//! Tool servers as children: what a node and `doctor` make of the commands of the configuration.

use std::collections::BTreeMap;

use bartizan_child::{Bounds, CommandSpec};

use super::*;

fn doctor(folder: &Path, commands: &str) -> (Option<i32>, String) {
    let file = folder.join("bartizan.toml");
    std::fs::write(&file, commands).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command
        .env_clear()
        .args(["--config", file.to_str().unwrap(), "doctor", "--data-folder"])
        .arg(folder.join("data"));
    let output = command.output().unwrap();
    let told =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_would_show_the_data_folder_is_refused_by_doctor_and_by_the_node() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder.path().join("data"), &[]);
    let _founded = found(&config, "2/3").await.unwrap();
    let (code, out) = doctor(folder.path(), "");
    assert!(code == Some(0) && out.contains("none are configured as commands"), "{out}");
    let (code, out) = doctor(folder.path(), "[commands.sound]\nprogram = \"/bin/cat\"");
    assert!(code == Some(0) && out.contains("1 commands; they run"), "{out}");
    let shows = format!("[commands.shows]\nprogram = \"/bin/cat\"\nfolder = {:?}", folder.path());
    let (code, out) = doctor(folder.path(), &shows);
    assert!(
        code == Some(1) && out.contains("commands.shows") && out.contains("would show the child"),
        "{out}"
    );
    let (code, out) = doctor(folder.path(), "[commands.x]\nprogram = \"/bin/cat\"\nshell = true");
    assert!(code != Some(0) && out.contains("commands.x"), "{out}");
    let spec = CommandSpec {
        program: "/bin/cat".into(),
        arguments: Vec::new(),
        environment: BTreeMap::new(),
        folder: Some(folder.path().to_owned()),
        readable: Vec::new(),
        network: false,
        bounds: Bounds::default(),
    };
    config.commands.insert("shows".parse().unwrap(), spec.clone());
    assert!(Node::start_on(&config, Machine::default()).await.is_err());
    // Nothing of it is held: with a folder that shows nothing the node starts.
    config.commands.insert("shows".parse().unwrap(), CommandSpec { folder: None, ..spec });
    Node::start_on(&config, Machine::default()).await.unwrap().stop().await;
}
