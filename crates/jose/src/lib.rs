//! JWS, JWT and JWKS verification on aws-lc-rs; pure.
