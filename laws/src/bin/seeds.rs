//! Writes the fuzz targets' seeds: `seeds REPOSITORY FOLDER` makes `FOLDER/TARGET/NUMBER`.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [repository, folder] = &arguments[..] else {
        eprintln!("seeds: wants the repository and a folder");
        return ExitCode::from(64);
    };
    match write(repository.as_ref(), folder.as_ref()) {
        Ok(count) => {
            eprintln!("seeds: {count} in {folder}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("seeds: {error}");
            ExitCode::from(2)
        }
    }
}

fn write(repository: &Path, folder: &Path) -> Result<usize, Box<dyn Error>> {
    let seeds = gauntlet_laws::seeds::all(repository)?;
    for (number, (target, bytes)) in seeds.iter().enumerate() {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{number:05}")), bytes)?;
    }
    Ok(seeds.len())
}
