package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// secretsDirectory is where the secrets of a Strimzi resource are expected, each in a directory with its name.
const secretsDirectory = "/etc/milena/secrets/"

// strimziOffsets is the topic with connector offsets of a KafkaMirrorMaker2 that does not name one.
const strimziOffsets = "mirrormaker2-cluster-offsets"

// strimzi reads a KafkaMirrorMaker2. In v1beta2 it lists the clusters, and each mirror names two of them. In v1 the target belongs to the
// resource and the source to each mirror.
func (r *foreignReader) strimzi(resource *yaml.Node) {
	spec := child(resource, "spec")
	if r.resource {
		r.bad(resource.Line, "kind", "is KafkaMirrorMaker2 again; use one file per resource")
		return
	}
	r.resource = true
	r.refuseKeys(spec, "spec.", "clusters connectCluster target mirrors", "version replicas image resources livenessProbe readinessProbe jvmOptions jmxOptions logging clientRackInitImage rack tracing template metricsConfig externalConfiguration")
	offsetsOf := make(map[string]string) // topics, by alias of their cluster
	for i, cluster := range child(spec, "clusters").Content {
		cluster = behind(cluster)
		path := fmt.Sprintf("spec.clusters[%d].", i)
		alias := r.strimziCluster(path, cluster)
		offsetsOf[alias] = child(child(cluster, "config"), "offset.storage.topic").Value
	}
	target := child(spec, "target")
	if target.Kind == yaml.MappingNode {
		alias := r.strimziCluster("spec.target.", target)
		offsetsOf[alias] = child(target, "offsetStorageTopic").Value
	}
	for i, mirror := range child(spec, "mirrors").Content {
		mirror = behind(mirror)
		path := fmt.Sprintf("spec.mirrors[%d].", i)
		from, to := child(mirror, "sourceCluster").Value, child(mirror, "targetCluster").Value
		if source := child(mirror, "source"); source.Kind == yaml.MappingNode {
			from, to = r.strimziCluster(path+"source.", source), child(target, "alias").Value
		}
		if from == "" || to == "" {
			r.bad(mirror.Line, strings.TrimSuffix(path, "."), "has no source or no target; name the aliases of both clusters")
			continue
		}
		r.strimziMirror(path, from, to, mirror)
		if name := offsetsOf[to]; name != "" {
			r.put(mirror.Line, path+"offset.storage.topic", to+".offset.storage.topic", name)
		} else {
			r.put(mirror.Line, path+"offset.storage.topic", to+".offset.storage.topic", strimziOffsets)
		}
	}
	if len(child(spec, "mirrors").Content) == 0 {
		r.bad(spec.Line, "spec.mirrors", "is missing or empty; without it nothing is copied")
	}
}

// refuseKeys reports the keys of a mapping that are not known, and notes those that have no effect.
func (r *foreignReader) refuseKeys(node *yaml.Node, path, known, noEffect string) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		switch {
		case slices.Contains(strings.Fields(known), key.Value):
		case slices.Contains(strings.Fields(noEffect), key.Value):
			r.note(key.Line, path+key.Value, "has no effect: no operator deploys milena, see deploy/kubernetes")
		default:
			r.bad(key.Line, path+key.Value, "cannot be converted: milena does not know it; remove it")
		}
	}
}

// strimziCluster reads the connection to a cluster and returns its alias.
func (r *foreignReader) strimziCluster(path string, cluster *yaml.Node) (alias string) {
	r.refuseKeys(cluster, path, "alias bootstrapServers tls authentication config offsetStorageTopic", "groupId configStorageTopic statusStorageTopic")
	alias = child(cluster, "alias").Value
	if alias == "" {
		r.bad(cluster.Line, path+"alias", "is missing or empty; give each cluster an alias, and to keep the names of topics, set replication.policy.class: %s in the config of the connectors", identityPolicy)
		return ""
	}
	r.addAlias(alias)
	if servers := child(cluster, "bootstrapServers"); servers.Value != "" {
		r.put(servers.Line, path+"bootstrapServers", alias+".bootstrap.servers", servers.Value)
	}
	tls := child(cluster, "tls")
	sasl := r.strimziLogin(path+"authentication.", alias, child(cluster, "authentication"))
	protocol := protocolPlain
	switch {
	case sasl && tls.Kind == yaml.MappingNode:
		protocol = protocolSASLSSL
	case sasl:
		protocol = protocolSASL
	case tls.Kind == yaml.MappingNode:
		protocol = protocolSSL
	}
	r.put(cluster.Line, path+"tls", alias+".security.protocol", protocol)
	r.strimziTrust(path+"tls.", alias, tls)
	r.putAll(path+"config.", alias+".", child(cluster, "config"))
	return alias
}

// secretFile is the file of a key of a secret.
func (r *foreignReader) secretFile(line int, path, secret, key string) string {
	file := secretsDirectory + secret + "/" + key
	r.note(line, path, "is read as the file %s; mount the secret %s there", file, secret)
	return file
}

// strimziTrust reads the trusted certificates. Without any, those of the system are trusted.
func (r *foreignReader) strimziTrust(path, alias string, tls *yaml.Node) {
	r.refuseKeys(tls, path, "trustedCertificates", "")
	trusted := child(tls, "trustedCertificates")
	if len(trusted.Content) == 0 {
		return
	}
	path += "trustedCertificates"
	if len(trusted.Content) > 1 {
		r.bad(trusted.Line, path, "has %d secrets, and milena reads one file of certificates; put them one after the other into one key of one secret", len(trusted.Content))
		return
	}
	one := behind(trusted.Content[0])
	key := child(one, "certificate").Value
	if pattern := child(one, "pattern").Value; key == "" && pattern != "" {
		if key = "ca.crt"; pattern != "*.crt" && pattern != "ca.crt" {
			r.bad(one.Line, path+"[0].pattern", "%q cannot be converted: milena reads one file; name it with certificate", pattern)
			return
		}
	}
	if secret := child(one, "secretName").Value; secret != "" && key != "" {
		r.put(one.Line, path, alias+".ssl.truststore.type", storeTypePEM)
		r.put(one.Line, path+"[0]", alias+".ssl.truststore.location", r.secretFile(one.Line, path+"[0]", secret, key))
		return
	}
	r.bad(one.Line, path+"[0]", "has no secretName or no certificate")
}

// strimziLogin reads the authentication of a cluster, and reports whether it is SASL.
func (r *foreignReader) strimziLogin(path, alias string, login *yaml.Node) (sasl bool) {
	if login.Kind != yaml.MappingNode {
		return false
	}
	modules := map[string][2]string{
		"plain":         {MechanismPlain, "org.apache.kafka.common.security.plain.PlainLoginModule"},
		"scram-sha-256": {MechanismScramSHA256, "org.apache.kafka.common.security.scram.ScramLoginModule"},
		"scram-sha-512": {MechanismScramSHA512, "org.apache.kafka.common.security.scram.ScramLoginModule"},
	}
	kind := child(login, "type").Value
	switch kind {
	case "tls":
		r.strimziCertificate(path+"certificateAndKey", alias, child(login, "certificateAndKey"))
		return false
	case "oauth":
		r.strimziOAuth(path, alias, login)
		return true
	case "custom":
		r.putAll(path+"config.", alias+".", child(login, "config"))
		return child(login, "sasl").Value == "true"
	}
	module, ok := modules[kind]
	if !ok {
		r.bad(login.Line, path+"type", "%q cannot be converted: milena has tls, plain, scram-sha-256, scram-sha-512, oauth and custom", kind)
		return false
	}
	secret := child(login, "passwordSecret")
	user, name, key := child(login, "username").Value, child(secret, "secretName").Value, child(secret, "password").Value
	if user == "" || name == "" || key == "" {
		r.bad(login.Line, strings.TrimSuffix(path, "."), "has no username, or no passwordSecret with secretName and password")
		return false
	}
	file := r.secretFile(secret.Line, path+"passwordSecret", name, key)
	r.put(login.Line, path+"type", alias+".sasl.mechanism", module[0])
	r.put(login.Line, path+"passwordSecret", alias+".sasl.jaas.config",
		fmt.Sprintf("%s required username=%q password=\"${secret:%s:%s}\";", module[1], user, file[:strings.LastIndexByte(file, '/')], key))
	return true
}

// strimziOAuth reads a login with tokens. The operator gives its settings to the login handler as options too.
func (r *foreignReader) strimziOAuth(path, alias string, login *yaml.Node) {
	r.refuseKeys(login, path, "type tokenEndpointUri clientId scope clientSecret accessToken clientAssertion tlsTrustedCertificates", "")
	config := bearerModule + " required"
	option := func(name, value string) {
		if value != "" {
			config += fmt.Sprintf(" %s=%q", name, value)
		}
	}
	option("oauth.token.endpoint.uri", child(login, "tokenEndpointUri").Value)
	option("oauth.client.id", child(login, "clientId").Value)
	option("oauth.scope", child(login, "scope").Value)
	secret := func(key, item string) (file string) {
		node := child(login, key)
		if list := node.Content; node.Kind == yaml.SequenceNode && len(list) == 1 {
			node = behind(list[0])
		}
		if node.Content == nil {
			return ""
		}
		name, entry := child(node, "secretName").Value, child(node, item).Value
		if name == "" || entry == "" || node.Kind != yaml.MappingNode {
			r.bad(node.Line, path+key, "cannot be converted: milena reads one secret with secretName and %s", item)
			return ""
		}
		return r.secretFile(node.Line, path+key, name, entry)
	}
	if file := secret("clientSecret", "key"); file != "" {
		i := strings.LastIndexByte(file, '/')
		option("oauth.client.secret", "${secret:"+file[:i]+":"+file[i+1:]+"}")
	}
	option("oauth.access.token.location", secret("accessToken", "key"))
	option("oauth.client.assertion.location", secret("clientAssertion", "key"))
	option("oauth.ssl.truststore.location", secret("tlsTrustedCertificates", "certificate"))
	r.put(login.Line, path+"type", alias+".sasl.mechanism", MechanismOAuthBearer)
	r.put(login.Line, path+"type", alias+".sasl.login.callback.handler.class", strimziHandler)
	r.put(login.Line, strings.TrimSuffix(path, "."), alias+".sasl.jaas.config", config+";")
}

// strimziCertificate reads a client certificate and its key.
func (r *foreignReader) strimziCertificate(path, alias string, pair *yaml.Node) {
	secret, certificate, key := child(pair, "secretName").Value, child(pair, "certificate").Value, child(pair, "key").Value
	if secret == "" || certificate == "" || key == "" {
		r.bad(pair.Line, path, "has no secretName, certificate or key")
		return
	}
	r.secretFile(pair.Line, path+".certificate", secret, certificate)
	r.secretFile(pair.Line, path+".key", secret, key)
	reference := func(name string) string { return "${secret:" + secretsDirectory + secret + ":" + name + "}" }
	r.put(pair.Line, path, alias+".ssl.keystore.type", storeTypePEM)
	r.put(pair.Line, path+".certificate", alias+".ssl.keystore.certificate.chain", reference(certificate))
	r.put(pair.Line, path+".key", alias+".ssl.keystore.key", reference(key))
}

// strimziMirror reads the connectors between two clusters and what they select.
func (r *foreignReader) strimziMirror(path, source, target string, mirror *yaml.Node) {
	prefix := source + "->" + target + "."
	patterns := map[string]string{
		"topicsPattern": "topics", "topicsExcludePattern": "topics.exclude", "topicsBlacklistPattern": "topics.exclude",
		"groupsPattern": "groups", "groupsExcludePattern": "groups.exclude", "groupsBlacklistPattern": "groups.exclude",
	}
	connectors := map[string]string{"sourceConnector": sourceConnector, "checkpointConnector": checkpointConnector, "heartbeatConnector": heartbeatConnector}
	for i := 0; i+1 < len(mirror.Content); i += 2 {
		key, value := mirror.Content[i], behind(mirror.Content[i+1])
		switch name := key.Value; {
		case patterns[name] != "":
			r.put(key.Line, path+name, prefix+patterns[name], value.Value)
		case connectors[name] != "":
			r.strimziConnector(path+name+".", prefix, value)
			r.addFlow(source, target, connectors[name])
		case slices.Contains([]string{"sourceCluster", "targetCluster", "source"}, name):
		default:
			r.bad(key.Line, path+name, "cannot be converted: milena does not know it; remove it")
		}
	}
	if r.flows[source+"->"+target] == nil {
		r.bad(mirror.Line, strings.TrimSuffix(path, "."), "has no sourceConnector, so it copies nothing; add it")
	}
}

func (r *foreignReader) strimziConnector(path, prefix string, connector *yaml.Node) {
	r.refuseKeys(connector, path, "config pause state", "tasksMax autoRestart version listOffsets alterOffsets")
	state := child(connector, "state")
	if state.Value != "" && state.Value != "running" || child(connector, "pause").Value == "true" {
		r.bad(connector.Line, path+"state", "is not running, and milena has no such state; remove it, or do not start milena")
	}
	r.putAll(path+"config.", prefix, child(connector, "config"))
}
