#!/bin/sh
# Recreates the key stores in this directory: certificates and keys for tests only, valid for 100 years.
# Needs keytool of Java 17 or later and OpenSSL 3. Passwords: storepass, and keypass where a key has its own.
set -eu
cd "$(dirname "$0")"
rm -f ./*.pem ./*.key ./*.jks ./*.jceks ./*.p12
days=36500

# authority NAME, certificate NAME AUTHORITY KIND-OF-KEY...
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -subj "/CN=$1" -keyout "$1.key" -out "$1.pem" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
}
certificate() {
    name=$1 by=$2
    shift 2
    openssl req -newkey "$@" -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
    printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' > extensions
    openssl x509 -req -in "$name.csr" -CA "$by.pem" -CAkey "$by.key" -CAcreateserial -days $days -extfile extensions -out "$name.pem"
    rm -f "$name.csr" extensions ./*.srl
}
authority ca
authority stranger
certificate broker ca ec -pkeyopt ec_paramgen_curve:P-256
certificate client ca rsa:2048
certificate other stranger ec -pkeyopt ec_paramgen_curve:P-256

# Truststores: by keytool in both types, in the PKCS12 of before Java 17, and without any password; by OpenSSL, which marks nothing as trusted.
import() { keytool -importcert -noprompt -alias ca -file ca.pem "$@"; }
import -keystore trust.jks -storetype JKS -storepass storepass
import -keystore trust.p12 -storetype PKCS12 -storepass storepass
import -keystore trust-old.p12 -storetype PKCS12 -storepass storepass -J-Dkeystore.pkcs12.legacy
import -keystore trust-open.p12 -storetype PKCS12 -storepass storepass \
    -J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE -J-Dkeystore.pkcs12.macAlgorithm=NONE
import -keystore trust.jceks -storetype JCEKS -storepass storepass
openssl pkcs12 -export -nokeys -in ca.pem -passout pass:storepass -out unmarked.p12

# Key stores: by OpenSSL; by keytool in both types and in the PKCS12 of before Java 17.
openssl pkcs12 -export -in client.pem -inkey client.key -certfile ca.pem -name client -passout pass:storepass -out client-openssl.p12
from() { keytool -importkeystore -noprompt -srckeystore client-openssl.p12 -srcstorepass storepass -srcalias client "$@"; }
from -destkeystore client.jks -deststoretype JKS -deststorepass storepass -destkeypass storepass
from -destkeystore client-keypass.jks -deststoretype JKS -deststorepass storepass -destkeypass keypass
from -destkeystore client.p12 -deststoretype PKCS12 -deststorepass storepass
from -destkeystore client-old.p12 -deststoretype PKCS12 -deststorepass storepass -J-Dkeystore.pkcs12.legacy

# A truststore that also holds a key, and stores of two keys, of which brokers of the authority accept the second one.
for type in JKS PKCS12; do
    ext=$(echo $type | sed 's/JKS/jks/;s/PKCS12/p12/')
    from -destkeystore mixed.$ext -deststoretype $type -deststorepass storepass -destkeypass storepass
    import -keystore mixed.$ext -storetype $type -storepass storepass
    openssl pkcs12 -export -in other.pem -inkey other.key -name a-stranger -passout pass:storepass -out other.p12
    keytool -importkeystore -noprompt -srckeystore other.p12 -srcstorepass storepass -srcalias a-stranger -destkeystore two.$ext \
        -deststoretype $type -deststorepass storepass -destkeypass storepass
    from -destkeystore two.$ext -deststoretype $type -deststorepass storepass -destkeypass storepass
done

# PEM as Java reads it: key and chain in one file, and keys that are encrypted.
cat client.key client.pem ca.pem > both.pem
openssl pkcs8 -topk8 -in client.key -passout pass:keypass -v2 aes-256-cbc -out encrypted.key
cat encrypted.key client.pem > both-encrypted.pem
openssl rsa -in client.key -traditional -aes128 -passout pass:keypass -out old.key

# Encryptions of before PKCS #5 2.0 that milena refuses.
legacy="-provider default -provider legacy"
openssl pkcs8 -topk8 -in client.key -passout pass:keypass -v1 PBE-MD5-DES $legacy -out md5-des.key
openssl pkcs8 -topk8 -in client.key -passout pass:keypass -v1 PBE-SHA1-3DES -out sha1-3des.key
openssl pkcs12 -export -legacy -keypbe PBE-MD5-DES -in client.pem -inkey client.key -certfile ca.pem -passout pass:storepass -out client-md5-des.p12
import -keystore trust-md5-des.p12 -storetype PKCS12 -storepass storepass -J-Dkeystore.pkcs12.certProtectionAlgorithm=PBEWithMD5AndDES
rm -f ca.key stranger.* other.*
