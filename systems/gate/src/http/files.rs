//! The playground: a few files inside the binary, or from the disk while it is worked on.

use std::path::PathBuf;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};

use crate::http::reply;

macro_rules! playground {
    ($($path:literal $file:literal $kind:literal;)*) => {
        /// Path, file, content type, content.
        const FILES: &[(&str, &str, &str, &[u8])] = &[$((
            $path,
            $file,
            $kind,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/playground/", $file)),
        ),)*];
    };
}

playground! {
    "/" "index.html" "text/html; charset=utf-8";
    "/index.html" "index.html" "text/html; charset=utf-8";
    "/app.js" "app.js" "text/javascript; charset=utf-8";
    "/style.css" "style.css" "text/css; charset=utf-8";
    "/kaosnet.js" "kaosnet.js" "text/javascript; charset=utf-8";
    "/kaosnet.d.ts" "kaosnet.d.ts" "text/plain; charset=utf-8";
}

/// What the page may do: run its own scripts, and connect to servers, its own or the one that `?server=` names.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self' http: https: ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the files come from.
pub(crate) struct Files {
    /// Read from here when it is there.
    folder: Option<PathBuf>,
}

impl Files {
    /// `from_disk`: from `assets/playground` under the working directory, if there is one.
    pub(crate) fn new(from_disk: bool) -> Self {
        let folder = PathBuf::from("assets/playground");
        Files { folder: (from_disk && folder.is_dir()).then_some(folder) }
    }

    /// Returns whether this is the path of a file.
    pub(crate) fn has(path: &str) -> bool {
        FILES.iter().any(|(known, ..)| *known == path)
    }

    /// The file of a path.
    pub(crate) fn get(&self, path: &str) -> Option<Response<Body>> {
        let (_, file, kind, inside) = FILES.iter().find(|(known, ..)| *known == path)?;
        // Only names of the table reach the disk, so no path leads out of the folder.
        let fresh = self.folder.as_ref().and_then(|folder| std::fs::read(folder.join(file)).ok());
        let mut response = match fresh {
            Some(fresh) => reply::ok(kind, fresh),
            None => reply::ok(kind, *inside),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_its_modules_are_inside() {
        let files = Files::new(false);
        for path in ["/", "/app.js", "/style.css", "/kaosnet.js", "/kaosnet.d.ts"] {
            let response = files.get(path).expect("there");
            assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        }
        assert!(files.get("/../Cargo.toml").is_none());
        assert!(files.get("/kaosnet.test.js").is_none());
    }
}
