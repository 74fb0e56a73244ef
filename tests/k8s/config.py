"""What the programs of the node are told: their files of settings and their command lines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

NAME = "sluice-k8s"
"""Of the node, the wire to it, and its cgroups."""
HERE, NODE = "10.229.0.1", "10.229.0.2"
"""The two ends of the wire between this machine and the node."""
PODS, SERVICES = "10.231.0.0/16", "10.230.0.0/16"
API_SERVICE = "10.230.0.1"
API = f"https://{NODE}:6443"
PAUSE = "sluice.test/pause:1"
# Where the node's own mounts hide this machine's folders.
RUN = Path("/run")
CONTAINERD = RUN / "containerd.sock"
# As many volumes as the servers claim, and some more.
VOLUMES = 5


@dataclass(frozen=True)
class Folders:
    """Where the node keeps what; nothing of it outlives the run."""

    node: Path
    programs: Path

    @property
    def keys(self) -> Path:
        """Keys, certificates, and the file by which kubectl finds the node."""
        return self.node / "keys"

    @property
    def kubeconfig(self) -> Path:
        """That file."""
        return self.keys / "kubeconfig"

    def key(self, name: str) -> tuple[str, str]:
        """The certificate and the key of this name."""
        return str(self.keys / f"{name}.crt"), str(self.keys / f"{name}.key")


def containerd(folders: Folders) -> str:
    """The settings of containerd 1.6, with folders and a socket of its own."""
    return f"""\
version = 2
root = "{folders.node}/containerd"
state = "{RUN}/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # A machine may not let its root lower these.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folders.programs}"
    conf_dir = "{folders.node}/cni"
"""


def network() -> str:
    """Pods on one bridge, each with an address of `PODS`."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(RUN / "cni-addresses"),
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": ipam}
    return json.dumps({"cniVersion": "1.0.0", "name": NAME, "plugins": [bridge]})


def kubelet(folders: Folders) -> str:
    """The kubelet's settings, for a machine with cgroups of either version."""
    settings: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": folders.key("ca")[0]},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": folders.key("node")[0],
        "tlsPrivateKeyFile": folders.key("node")[1],
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{NAME}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDomain": "cluster.local",
        "clusterDNS": [NODE],
        "resolvConf": str(folders.node / "resolv.conf"),
        "podLogsDir": str(folders.node / "logs" / "pods"),
        "volumePluginDir": str(folders.node / "plugins"),
        # The disk is not the node's own, so how full it is says nothing.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
    }
    return yaml.safe_dump(settings)


def dns(folders: Folders) -> str:
    """CoreDNS for the names of Services; every other name does not exist."""
    return f"""\
cluster.local:53 in-addr.arpa:53 {{
    bind {NODE}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {folders.kubeconfig}
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    bind {NODE}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def kubeconfig(folders: Folders) -> str:
    """How the node's parts, kubectl and Helm reach the API server; its context is named as those of kind."""
    certificate, key = folders.key("admin")
    named: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": NAME, "cluster": {"server": API, "certificate-authority": folders.key("ca")[0]}}
        ],
        "users": [{"name": "admin", "user": {"client-certificate": certificate, "client-key": key}}],
        "contexts": [{"name": f"kind-{NAME}", "context": {"cluster": NAME, "user": "admin"}}],
        "current-context": f"kind-{NAME}",
    }
    return yaml.safe_dump(named)


def volumes(folder: Path) -> str:
    """Volumes that are folders, as many as the servers claim; what is in them is kept."""
    return yaml.safe_dump_all(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"volume-{number}"},
            "spec": {
                "capacity": {"storage": "20Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": str(folder / str(number))},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]}
                                ]
                            }
                        ]
                    }
                },
            },
        }
        for number in range(VOLUMES)
    )


def commands(folders: Folders) -> dict[str, list[str]]:
    """The node's programs in the order in which they start, with their arguments."""
    certificate, key = folders.key("node")
    authority = folders.key("ca")[0]
    admin, admin_key = folders.key("admin")
    accounts = folders.key("accounts")[1]
    as_admin = f"--kubeconfig={folders.kubeconfig}"
    store = "http://127.0.0.1:2379"
    return {
        "containerd": [f"--config={folders.node}/containerd.toml"],
        "etcd": [
            *(f"--data-dir={folders.node}/etcd", f"--listen-client-urls={store}", "--log-level=warn"),
            *(f"--advertise-client-urls={store}", "--unsafe-no-fsync"),
        ],
        "kube-apiserver": [
            *(f"--etcd-servers={store}", f"--advertise-address={NODE}", "--secure-port=6443"),
            *(f"--service-cluster-ip-range={SERVICES}", "--authorization-mode=RBAC", "--allow-privileged"),
            *(
                f"--tls-cert-file={certificate}",
                f"--tls-private-key-file={key}",
                f"--client-ca-file={authority}",
            ),
            *(f"--kubelet-client-certificate={admin}", f"--kubelet-client-key={admin_key}"),
            *("--kubelet-preferred-address-types=InternalIP", f"--kubelet-certificate-authority={authority}"),
            *(
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={accounts}",
            ),
            f"--service-account-signing-key-file={accounts}",
        ],
        "kube-controller-manager": [
            *(as_admin, "--leader-elect=false", f"--root-ca-file={authority}"),
            f"--service-account-private-key-file={accounts}",
        ],
        "kube-scheduler": [as_admin, "--leader-elect=false"],
        "kubelet": [
            *(as_admin, f"--config={folders.node}/kubelet.yaml", f"--root-dir={folders.node}/kubelet"),
            *(f"--hostname-override={NAME}", f"--node-ip={NODE}"),
        ],
        # The limits of connections are the machine's, and not the node's to change.
        "kube-proxy": [
            *(as_admin, f"--hostname-override={NAME}", f"--cluster-cidr={PODS}", "--proxy-mode=iptables"),
            *("--conntrack-max-per-core=0", "--conntrack-min=0"),
            *("--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"),
        ],
        "coredns": [f"-conf={folders.node}/Corefile"],
        # It wants the node to be known.
        "kube-router": [
            *(as_admin, f"--hostname-override={NAME}", f"--service-cluster-ip-range={SERVICES}"),
            *("--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--enable-cni=false"),
        ],
    }
