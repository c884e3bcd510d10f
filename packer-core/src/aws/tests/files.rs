//! Files in S3.

use super::fake::{Aws, Reply, ok, status};
use crate::aws::{AccessConfig, Upload};
use crate::event::EventKind;
use crate::testing::Bench;

async fn session(bench: &Bench) -> std::sync::Arc<crate::aws::Session> {
    let options =
        AccessConfig { skip_credential_validation: true, max_retries: 2, ..AccessConfig::default() };
    options.session(bench.context()).await.unwrap()
}

#[tokio::test]
async fn a_file_goes_whole_and_again_where_that_fails() {
    let aws = Aws::new(|_, before| if before == 0 { status(503, "") } else { ok("") }).await;
    let bench = aws.bench_with_keys();
    let file = bench.folder().join("disk.raw");
    std::fs::write(&file, "content").unwrap();
    let upload = Upload::new(&file, "my.bucket", "a b/c+d").header("x-amz-server-side-encryption", "AES256");
    session(&bench).await.s3_put(bench.context(), &upload).await.unwrap();
    let seen = aws.seen();
    assert_eq!(seen.len(), 2);
    for asked in &seen {
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("PUT", "/my.bucket/a%20b/c%2Bd"));
        assert_eq!(
            (asked.body.as_slice(), asked.header("x-amz-server-side-encryption")),
            (&b"content"[..], "AES256")
        );
        assert!(asked.header("authorization").contains("x-amz-server-side-encryption"));
    }
    let told = bench
        .recorder()
        .events()
        .iter()
        .any(|event| matches!(&event.kind, EventKind::Progress { total: Some(7), done: 7, .. }));
    assert!(told);
    let error =
        session(&bench).await.s3_put(bench.context(), &Upload::new("/no/such", "b", "k")).await.unwrap_err();
    assert_eq!(error.to_string(), "open /no/such: no such file or directory");
}

/// A bucket whose second part is refused or not.
async fn bucket(refused: bool) -> Aws {
    Aws::new(move |asked, before| -> Reply {
        let (method, target) = (asked.method.as_str(), asked.target.as_str());
        match (method, target.split_once('?').map_or("", |(_, query)| query)) {
            ("POST", "uploads=") => ok("<R><UploadId>u&amp;1</UploadId></R>"),
            ("PUT", query) if query.starts_with("partNumber=2&") && refused => status(403, "<Error><Code>AccessDenied</Code></Error>"),
            ("PUT", query) => (200, format!("etag: \"{}\"\r\n", &query[11..12]), String::new()),
            ("POST", "uploadId=u%261") => ok("<CompleteMultipartUploadResult/>"),
            ("DELETE", _) if before > 0 => status(404, ""),
            ("DELETE", _) => status(204, ""),
            ("GET", "uploads=&prefix=k") => {
                ok("<R><Upload><Key>k</Key><UploadId>left</UploadId></Upload><Upload><Key>k2</Key><UploadId>other</UploadId></Upload></R>")
            }
            _ => status(400, ""),
        }
    })
    .await
}

#[tokio::test]
async fn a_long_file_goes_in_parts() {
    let aws = bucket(false).await;
    let bench = aws.bench_with_keys();
    let path = bench.folder().join("disk.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len((64 << 20) + 5).unwrap();
    session(&bench).await.s3_put(bench.context(), &Upload::new(&path, "b", "k")).await.unwrap();
    let seen = aws.seen();
    let lengths: Vec<usize> = seen.iter().map(|asked| asked.body.len()).collect();
    assert_eq!(lengths[1..3], [64 << 20, 5]);
    assert_eq!(seen[2].target, "/b/k?partNumber=2&uploadId=u%261");
    let list = String::from_utf8_lossy(&seen[3].body).into_owned();
    assert!(list.contains("<Part><PartNumber>2</PartNumber><ETag>\"2\"</ETag></Part>"), "{list}");

    let aws = bucket(true).await;
    let bench = aws.bench_with_keys();
    let error =
        session(&bench).await.s3_put(bench.context(), &Upload::new(&path, "b", "k")).await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    assert_eq!(aws.seen().last().unwrap().action(), "DELETE /b/k?uploadId=u%261");
}

#[tokio::test]
async fn what_is_taken_out_goes_with_what_broke_off() {
    let aws = bucket(false).await;
    let bench = aws.bench_with_keys();
    let session = session(&bench).await;
    session.s3_delete("b", "k").await.unwrap();
    session.s3_delete("b", "k").await.unwrap();
    let calls: Vec<String> = aws.seen().iter().map(|asked| asked.action()).collect();
    assert_eq!(calls[..3], ["GET /b/?uploads=&prefix=k", "DELETE /b/k?uploadId=left", "DELETE /b/k"]);
}
