//! Where the wheels and files are taken from in place of their sources, and where a repository's host has them.

use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use super::download::shown;
use crate::detect::manifest::RepositorySource;

/// A place that holds wheels or models' files, all in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// Of this machine.
    Folder(PathBuf),
    /// Below this address, by HTTP or HTTPS.
    Web(Url),
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some((scheme, path)) if scheme.eq_ignore_ascii_case("file") => Ok(Self::Folder(path.into())),
            Some((scheme, _)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
                let url = Url::parse(text).map_err(|error| format!("{error}: an address as http://host/folder"))?;
                Ok(Self::Web(url))
            }
            Some((scheme, _)) => Err(format!("{scheme}:// is not understood: a folder, or http:// or https://")),
            None if text.is_empty() => Err("a folder, or an address, is needed".to_owned()),
            None => Ok(Self::Folder(text.into())),
        }
    }
}

impl std::fmt::Display for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Web(url) => f.write_str(&shown(url)),
        }
    }
}

/// A file below an address; its name is escaped as it must be.
pub(super) fn below(base: &Url, name: &str) -> Option<Url> {
    let mut url = base.clone();
    url.path_segments_mut().ok()?.pop_if_empty().push(name);
    Some(url)
}

/// Where the host of a public git repository has a file of a commit, raw. GitHub's way (which follows Git LFS pointers) is taken
/// for a host that is not known: most others understand it too.
pub(super) fn raw_file(source: &RepositorySource) -> Option<Url> {
    let repository = source.repository.trim_end_matches('/').trim_end_matches(".git");
    let mut url = Url::parse(repository).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let way: &[&str] = match url.host_str()? {
        "gitlab.com" => &["-", "raw"],
        "huggingface.co" => &["resolve"],
        "codeberg.org" | "gitea.com" => &["raw", "commit"],
        _ => &["raw"],
    };
    let path = source.path.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    url.path_segments_mut().ok()?.extend(way).push(&source.commit).extend(path);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(repository: &str, path: &str) -> Option<String> {
        let source = RepositorySource {
            repository: repository.to_owned(),
            commit: "c0ffee".to_owned(),
            path: path.to_owned(),
            sha256: String::new(),
        };
        raw_file(&source).map(|url| url.to_string())
    }

    #[test]
    fn hosts_have_raw_files_each_in_its_own_way() {
        for (repository, expected) in [
            ("https://github.com/a/b", "https://github.com/a/b/raw/c0ffee/x/y%20z.onnx"),
            ("https://github.com/a/b.git/", "https://github.com/a/b/raw/c0ffee/x/y%20z.onnx"),
            ("https://gitlab.com/a/b/c", "https://gitlab.com/a/b/c/-/raw/c0ffee/x/y%20z.onnx"),
            ("https://huggingface.co/a/b", "https://huggingface.co/a/b/resolve/c0ffee/x/y%20z.onnx"),
            ("https://codeberg.org/a/b", "https://codeberg.org/a/b/raw/commit/c0ffee/x/y%20z.onnx"),
            ("http://127.0.0.1:99/r", "http://127.0.0.1:99/r/raw/c0ffee/x/y%20z.onnx"),
        ] {
            assert_eq!(raw(repository, "x/y z.onnx").unwrap(), expected);
        }
        assert_eq!(raw("git@github.com:a/b", "x"), None);
        assert_eq!(raw("file:///etc", "passwd"), None);
        assert_eq!(raw("https://github.com/a/b", "../../x").unwrap(), "https://github.com/a/b/raw/c0ffee/x");
    }

    #[test]
    fn a_mirror_is_a_folder_or_an_address() {
        for (text, folder) in [("models", "models"), ("/media/usb", "/media/usb"), ("file:///media/usb", "/media/usb")]
        {
            assert_eq!(text.parse(), Ok(Mirror::Folder(folder.into())));
        }
        let Ok(Mirror::Web(base)) = "https://mirror.example/models".parse() else { panic!("an address") };
        assert_eq!(below(&base, "a b.onnx").unwrap().as_str(), "https://mirror.example/models/a%20b.onnx");
        let Ok(Mirror::Web(base)) = "HTTP://mirror.example/models/".parse() else { panic!("an address") };
        assert_eq!(below(&base, "a.onnx").unwrap().as_str(), "http://mirror.example/models/a.onnx");
        for bad in ["", "ftp://x/", "s3://x", "http://"] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_leads_out_of_the_mirror(name in "\\PC{0,40}") {
            let base = Url::parse("http://mirror.example/models").unwrap();
            let url = below(&base, &name).unwrap();
            prop_assert_eq!(url.host_str(), Some("mirror.example"));
            prop_assert!(url.path().starts_with("/models"));
            let _ = name.parse::<Mirror>();
            let _ = raw(&name, &name);
        }
    }
}
