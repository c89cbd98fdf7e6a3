package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// serveFiles is the argument that makes this program the file server.
const serveFiles = "serve-files"

// runFileServer serves a directory until it is killed.
func runFileServer(dir, address string) error {
	files := http.FileServer(http.Dir(dir))
	server := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Printf("         file server: %s %s for %s\n", r.Method, r.URL.Path, r.Host)
			files.ServeHTTP(w, r)
		}),
	}
	return server.ListenAndServe()
}

// makeFile writes a file of random bytes and returns its SHA-256.
func makeFile(path string, size int64) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{'s', 'c', 'n'}), size); err != nil {
		return "", err
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), f.Close()
}
