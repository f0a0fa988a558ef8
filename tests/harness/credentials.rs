//! What a test's API server is known by, and who may ask it: one certificate,
//! and a token for each user.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

/// The user who may do everything.
pub const ADMIN: User<'static> = User { name: "admin", group: "system:masters" };

/// Somebody with a token.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// Name, as RBAC knows it.
    pub name: &'a str,
    /// Group, as RBAC knows it.
    pub group: &'a str,
}

impl User<'_> {
    fn token(self) -> String {
        format!("token-of-{}", self.name.replace(':', "-"))
    }
}

/// Writes a certificate for `addresses` that signs itself, the users' tokens,
/// and a kubeconfig for each user, who finds the server at `server`.
pub(crate) fn write(folder: &Path, addresses: &[IpAddr], server: &str, users: &[User<'_>]) {
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    parameters.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver of a test");
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let authority = folder.join("server.crt");
    let tokens = users.iter().map(|user| {
        let User { name, group } = user;
        format!("{},{name},{name},\"{group}\"\n", user.token())
    });
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("server.pub", key.public_key_pem()),
        ("tokens.csv", tokens.collect()),
    ] {
        fs::write(folder.join(name), text).expect("a scratch file");
    }
    for user in users {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: \"{server}\", \
             certificate-authority: \"{}\"}}}}]\n\
             users: [{{name: test, user: {{token: {}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            authority.display(),
            user.token()
        );
        fs::write(kubeconfig(folder, user.name), text).expect("a scratch file");
    }
}

/// Returns the path of a user's kubeconfig.
pub(crate) fn kubeconfig(folder: &Path, user: &str) -> PathBuf {
    folder.join(format!("kubeconfig-{}", user.replace(':', "-")))
}
