//! Whom to believe: known hosts in all their forms, certificates of hosts, and hosts that are new.

use pulpcov_tests::lab::Lab;

use super::{hosts, key, logged, one, place, read, run, sshd, status};

/// Known hosts with these lines; the words that make pulpcov read them.
fn known(lab: &Lab, name: &str, lines: &str) -> [String; 2] {
    ["--known-hosts".to_owned(), place(lab, name, lines)]
}

fn as_words(words: &[String; 2]) -> [&str; 2] {
    [&words[0], &words[1]]
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn known_hosts_in_all_their_forms() {
    let lab = hosts(1);
    let public = read(lab.path("keys/h1.pub"));
    let inventory = one(&lab, "");
    let plain = known(&lab, "plain", &format!("10.77.0.2 {public}"));
    run("ssh-keygen", &["-q", "-H", "-f", &plain[1]]);
    assert!(read(&plain[1]).starts_with("|1|"));
    status(&lab, &inventory, &as_words(&plain)).ends(0, &["h1  ok"]);
    let wild = known(&lab, "wild", &format!("10.77.?.*,!10.77.0.9 {public}"));
    status(&lab, &inventory, &as_words(&wild)).ends(0, &["h1  ok"]);
    let negated = known(&lab, "negated", &format!("10.77.*,!10.77.0.2 {public}"));
    status(&lab, &inventory, &as_words(&negated)).ends(4, &["no key of 10.77.0.2 is known"]);
    // Several files: what one revokes no other can vouch for.
    let revoked = known(&lab, "revoked", &format!("@revoked * {public}"));
    let [option, file] = as_words(&revoked);
    let [_, good] = as_words(&wild);
    status(&lab, &inventory, &["--known-hosts", good, option, file])
        .ends(4, &["is revoked by", &format!("{file}:1")]);
    // An alias is looked up instead of the address.
    let alias = known(&lab, "alias", &format!("the-gate {public}"));
    let aliased = one(&lab, "ansible_ssh_common_args: -o HostKeyAlias=the-gate");
    status(&lab, &aliased, &as_words(&alias)).ends(0, &["h1  ok"]);
    status(&lab, &inventory, &as_words(&alias)).ends(4, &["no key of 10.77.0.2 is known"]);
    status(&lab, &inventory, &["--host-key", good]).ends(0, &["h1  ok"]);
    status(&lab, &inventory, &["--host-key", "no-such-file"]).ends(2, &["--host-key no-such-file: "]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_new_host_is_taken_down_once_and_never_replaced() {
    let lab = hosts(2);
    let file = lab.path("new").to_string_lossy().into_owned();
    let key_file = lab.path("key").display().to_string();
    let inventory = format!(
        "all:\n  vars: {{ansible_user: deploy, ansible_ssh_private_key_file: {key_file}}}\n  hosts:\n    \
         h1: {{ansible_host: 10.77.0.2}}\n    h2: {{ansible_host: 10.77.0.3}}\n"
    );
    let new = ["--known-hosts", &file, "--host-key", "accept-new"];
    status(&lab, &inventory, &new).ends(0, &["2 hosts that were not known: added to", "h1  ok", "h2  ok"]);
    let first = read(&file);
    assert_eq!(first.lines().count(), 2, "{first}");
    let again = status(&lab, &inventory, &new);
    again.ends(0, &["h1  ok"]);
    assert!(!again.words.contains("not known"), "{}", again.words);
    assert_eq!(read(&file), first);
    status(&lab, &inventory, &["--known-hosts", &file, "--host-key", "strict"]).ends(0, &["h2  ok"]);
    lab.change_host_key(1);
    let before = logged(&lab, 1, "Accepted");
    status(&lab, &inventory, &new).ends(4, &["h1  unreachable", &format!("{file}:"), "h2  ok"]);
    assert_eq!((read(&file), logged(&lab, 1, "Accepted")), (first, before));
    // By ssh_config's word, with names that nobody can read.
    let hashed = lab.path("hashed").to_string_lossy().into_owned();
    let words =
        format!("-o StrictHostKeyChecking=accept-new -o HashKnownHosts=yes -o UserKnownHostsFile={hashed}");
    status(&lab, &inventory, &["--ssh-common-args", &words]).ends(0, &["h1  ok", "h2  ok"]);
    assert!(read(&hashed).lines().count() == 2 && !read(&hashed).contains("10.77"), "{}", read(&hashed));
    run("ssh-keygen", &["-F", "10.77.0.3", "-f", &hashed]);
    let nowhere = lab.path("key").join("known").to_string_lossy().into_owned();
    status(&lab, &inventory, &["--known-hosts", &nowhere, "--host-key", "accept-new"])
        .ends(2, &["--known-hosts"]);
}

/// Gives host 1 a certificate, signed as `words` say.
fn certify(lab: &Lab, authority: &str, words: &[&str]) {
    let public = place(lab, "host.pub", &read(lab.path("keys/h1.pub")));
    let mut all = vec!["-q", "-s", authority];
    all.extend(words);
    all.push(&public);
    run("ssh-keygen", &all);
    let certificate = read(lab.path("host-cert.pub"));
    lab.shell(1, &format!("echo '{}' > /etc/ssh/host-cert.pub", certificate.trim()));
    sshd(lab, 1, "HostCertificate /etc/ssh/host-cert.pub");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_certificate_counts_where_its_authority_is_known() {
    let lab = hosts(1);
    let authority = key(&lab, "authority");
    let public = read(lab.path("authority.pub"));
    let trust = known(&lab, "ca", &format!("@cert-authority 10.77.* {public}"));
    let inventory = one(&lab, "");
    let says = |words: &[&str]| {
        certify(&lab, &authority, words);
        status(&lab, &inventory, &as_words(&trust))
    };
    says(&["-h", "-I", "one", "-n", "10.77.0.2,h1"]).ends(0, &["h1  ok"]);
    says(&["-h", "-I", "any"]).ends(0, &["h1  ok"]);
    says(&["-h", "-I", "other", "-n", "db.lan"]).ends(4, &["h1  unreachable", "it is for db.lan"]);
    says(&["-h", "-I", "old", "-V", "20200101:20200201"]).ends(4, &["it has expired"]);
    says(&["-h", "-I", "soon", "-V", "20900101:20910101"]).ends(4, &["it is not valid yet"]);
    says(&["-I", "user", "-n", "10.77.0.2"]).ends(4, &["h1  unreachable"]);
    // An alias is what the certificate must be for.
    let aliased = one(&lab, "ansible_ssh_common_args: -o HostKeyAlias=db.lan");
    certify(&lab, &authority, &["-h", "-I", "alias", "-n", "db.lan"]);
    let wide = known(&lab, "wide", &format!("@cert-authority *.lan {public}"));
    status(&lab, &aliased, &as_words(&wide)).ends(0, &["h1  ok"]);
    // The authority may be revoked, and the key may be known without one.
    certify(&lab, &authority, &["-h", "-I", "one"]);
    let revoked = known(&lab, "gone", &format!("@cert-authority * {public}@revoked * {public}"));
    status(&lab, &inventory, &as_words(&revoked)).ends(4, &["is revoked by"]);
    status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
    // Another authority vouches for nobody here.
    key(&lab, "stranger");
    let stranger = known(&lab, "strange", &format!("@cert-authority * {}", read(lab.path("stranger.pub"))));
    status(&lab, &inventory, &as_words(&stranger)).ends(4, &["no key of 10.77.0.2 is known"]);
}
