package evidence

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"

	"scn.alt/scn/routing/identity"
)

// Reference: RFC 9381 §B.3, Examples 19 to 21.
func TestVRFVectors(t *testing.T) {
	for _, v := range []struct{ name, secret, public, input, proof, output string }{
		{
			"example 19",
			"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
			"",
			"7d9c633ffeee27349264cf5c667579fc583b4bda63ab71d001f89c10003ab46f14adf9a3cd8b8412d9038531e865c341cafa73589b023d14311c331a9ad15ff2fb37831e00f0acaa6d73bc9997b06501",
			"9d574bf9b8302ec0fc1e21c3ec5368269527b87b462ce36dab2d14ccf80c53cccf6758f058c5b1c856b116388152bbe509ee3b9ecfe63d93c3b4346c1fbc6c54",
		},
		{
			"example 20",
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
			"72",
			"47b327393ff2dd81336f8a2ef10339112401253b3c714eeda879f12c509072ef055b48372bb82efbdce8e10c8cb9a2f9d60e93908f93df1623ad78a86a028d6bc064dbfc75a6a57379ef855dc6733801",
			"38561d6b77b71d30eb97a062168ae12b667ce5c28caccdf76bc88e093e4635987cd96814ce55b4689b3dd2947f80e59aac7b7675f8083865b46c89b2ce9cc735",
		},
		{
			"example 21",
			"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
			"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
			"af82",
			"926e895d308f5e328e7aa159c06eddbe56d06846abf5d98c2512235eaa57fdce35b46edfc655bc828d44ad09d1150f31374e7ef73027e14760d42e77341fe05467bb286cc2c9d7fde29120a0b2320d04",
			"121b7f9b9aaaa29099fc04a94ba52784d44eac976dd1a3cca458733be5cd090a7b5fbd148444f17f8daf1fb55cb04b1ae85a626e30a54b4b0f8abf4a43314a58",
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			secret := identity.NewKeyFromSeed([32]byte(unhex(t, v.secret)))
			key := VRFKeyOf(secret)
			if !bytes.Equal(key[:], unhex(t, v.public)) {
				t.Fatalf("public key %s", key)
			}
			output, proof := ProveVRF(secret, unhex(t, v.input))
			if !bytes.Equal(proof[:], unhex(t, v.proof)) || !bytes.Equal(output[:], unhex(t, v.output)) {
				t.Errorf("proof %x, output %x", proof, output)
			}
			if got, err := key.Verify(unhex(t, v.input), proof); err != nil || got != output {
				t.Errorf("verified as %x, %v", got, err)
			}
			if err := key.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVRFRefuses(t *testing.T) {
	secret := identity.NewKeyFromSeed([32]byte{1})
	key, message := VRFKeyOf(secret), []byte("input")
	_, good := ProveVRF(secret, message)
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			bad := good
			bad[i] ^= bit
			if _, err := key.Verify(message, bad); !errors.Is(err, ErrVRFProof) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
	}
	if _, err := key.Verify([]byte("another"), good); !errors.Is(err, ErrVRFProof) {
		t.Errorf("another input: %v", err)
	}
	if _, err := VRFKeyOf(identity.NewKeyFromSeed([32]byte{2})).Verify(message, good); !errors.Is(err, ErrVRFProof) {
		t.Errorf("another key: %v", err)
	}

	// The same proof with s+q for s, which is the same number (RFC 9381 §5.4.4, step 8).
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := new(big.Int)
	for i := 79; i >= 48; i-- {
		s.Lsh(s, 8).Or(s, big.NewInt(int64(good[i])))
	}
	s.Add(s, order)
	malleable := good
	for i := 48; i < 80; i++ {
		malleable[i] = byte(s.Uint64())
		s.Rsh(s, 8)
	}
	if s.Sign() != 0 || malleable == good {
		t.Fatal("the test has made no malleable proof")
	}
	if _, err := key.Verify(message, malleable); !errors.Is(err, ErrVRFProof) {
		t.Errorf("s above the order: %v", err)
	}
}

func TestVRFKeyRefuses(t *testing.T) {
	// Points of small order, and y that is not below p (RFC 8032 §5.1.3).
	small := []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // y = p
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // y = p+1
		"0100000000000000000000000000000000000000000000000000000000000080", // −0
		"0200000000000000000000000000000000000000000000000000000000000000", // not on the curve
	}
	for _, text := range small {
		var key VRFKey
		if err := key.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := key.Validate(); !errors.Is(err, ErrVRFKey) {
			t.Errorf("%s: %v", text, err)
		}
		_, proof := ProveVRF(identity.NewKeyFromSeed([32]byte{1}), nil)
		if _, err := key.Verify(nil, proof); !errors.Is(err, ErrVRFProof) {
			t.Errorf("%s verifies: %v", text, err)
		}
	}
	var key VRFKey
	for _, text := range []string{"", "00", "zz", string(bytes.Repeat([]byte("z"), 64))} {
		if err := key.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
