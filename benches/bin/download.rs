//! Fetches or serves one file, for the script `download`: `download fetch URL CHECKSUM CACHE` or `download serve FOLDER`.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for measurements")]

use std::net::Ipv4Addr;

use packer_core::kit::download::Download;
use packer_core::kit::http_server::HttpConfig;
use packer_core::testing::Bench;
use packer_core::{Host, Result};

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    runtime.block_on(async {
        match arguments[..] {
            ["fetch", url, checksum, cache] => {
                let mut host = Host::new();
                host.cache_dir = cache.into();
                let bench = Bench::with_host(host);
                Download::new("file").from(url).checksum(checksum.parse()?).fetch(bench.context()).await?;
            }
            ["serve", folder] => {
                let bench = Bench::new();
                let mut config = HttpConfig::default();
                folder.clone_into(&mut config.http_directory);
                let server = config.serve(bench.context(), Ipv4Addr::LOCALHOST.into()).await?;
                // It lasts as long as this value.
                let server = server.expect("a folder is served");
                println!("{}", server.address());
                std::future::pending::<()>().await;
            }
            _ => println!("download fetch URL CHECKSUM CACHE | serve FOLDER"),
        }
        Ok(())
    })
}
