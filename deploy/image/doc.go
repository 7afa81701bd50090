// Command image builds the container image of milena without a container engine: a folder in the OCI layout, for linux/amd64 and linux/arm64.
//
//	cd deploy/image
//	go run . -o ../../dist/image           writes the layout and prints its digest
//	go run . -tar ../../dist/milena.tar       writes a file for docker load or podman load, for this machine's processor
//
// Registry tools read the layout: skopeo copy --all oci:dist/image:latest docker://REGISTRY/milena:v1.0.0.
//
// The same commit and Go toolchain give the same digest on each machine: the binary is built with -trimpath, all files have the time 0, and the certificate authorities are those of a Go module (Mozilla's list, fixed by go.sum), not those of the
// builder. It is a module of its own, so that milena does not depend on it.
//
// The Dockerfile makes the same image for those who have Docker; a test compares the two. Other tests start the image with runc.
package main
