//! Inputs of the benchmarks in `benches/`; `compare` sets whole programs side by side.

/// A template of about `bytes` bytes that looks like what people write: variables, locals, sources, provisioners.
pub fn realistic_template(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 2048);
    let mut i = 0;
    while text.len() < bytes {
        text.push_str(&format!(
            r#"
# Image number {i}
variable "region_{i}" {{
  type        = string
  default     = "eu-west-{i}"
  description = "Where image {i} is built."
}}

locals {{
  name_{i} = "web-${{var.region_{i}}}-${{formatdate("YYYYMMDD", "2026-01-02T03:04:05Z")}}"
  tags_{i} = {{
    Name  = local.name_{i}
    Count = {i} + 1
    Ports = [for p in [80, 443, 8080] : p + {i} if p > 80]
    Role  = {i} % 2 == 0 ? "even" : "odd"
  }}
}}

source "null" "image_{i}" {{
  communicator = "none"
  ssh_host     = "${{local.name_{i}}}.example.com"
  ssh_username = upper("admin_{i}")
}}
"#
        ));
        i += 1;
    }
    let names: Vec<String> = (0..i).map(|n| format!("\"null.image_{n}\"")).collect();
    text.push_str(&format!("\nbuild {{\n  sources = [{}]\n", names.join(", ")));
    text.push_str(
        r#"
  provisioner "shell-local" {
    environment_vars = ["NAME=${local.name_0}", "SOURCE=${source.name}"]
    inline = [
      "echo building ${source.type}.${source.name}",
      "echo ${jsonencode(local.tags_0)}",
    ]
  }
}
"#,
    );
    text
}

/// A template with this many `null` sources that one build uses.
pub fn many_sources(count: usize) -> String {
    let mut text = String::new();
    for i in 0..count {
        text.push_str(&format!("source \"null\" \"s{i}\" {{\n  communicator = \"none\"\n}}\n"));
    }
    let names: Vec<String> = (0..count).map(|n| format!("\"null.s{n}\"")).collect();
    text.push_str(&format!("build {{\n  sources = [{}]\n}}\n", names.join(", ")));
    text
}
