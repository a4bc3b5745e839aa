//! Signatures of tokens, verified by the implementation that TLS has, too.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::signature::{Error as Refused, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

/// What a token may be signed by. Never by a secret that both sides know: the keys of an issuer are public.
pub(crate) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: unsigned, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Has signatures verified here.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    // A program that embeds this may have chosen another implementation, which is as good.
    INSTALLED.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

fn unsigned(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn jsonwebtoken::crypto::JwtSigner>> {
    Err(ErrorKind::Provider("nothing is signed here".to_owned()).into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let by = match algorithm {
        Algorithm::RS256 => By::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => By::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => By::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => By::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => By::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => By::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => By::Curve(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => By::Curve(&signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => By::Edwards,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    // What a key is for is told by the key, not by the token that it is to prove.
    match ALGORITHMS.contains(algorithm) && key.family().algorithms().contains(algorithm) {
        true => Ok(Box::new(Verified { algorithm: *algorithm, by, key: key.clone() })),
        false => Err(Error::from(ErrorKind::InvalidAlgorithm)),
    }
}

enum By {
    Rsa(&'static RsaParameters),
    Curve(&'static EcdsaVerificationAlgorithm),
    Edwards,
}

struct Verified {
    algorithm: Algorithm,
    by: By,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for Verified {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Refused> {
        let verified = match (&self.by, self.key.kind()) {
            (By::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (By::Curve(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(*algorithm, point).verify(message, signature)
            }
            (By::Edwards, DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(message, signature)
            }
            _ => return Err(Refused::new()),
        };
        verified.map_err(|_| Refused::new())
    }
}

impl JwtVerifier for Verified {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
