/** @file
  Ends a boot that cannot have UEFI variables, and says why.

  Without them the firmware starts no boot manager: EDK2's RELEASE build would end in a null pointer, and MmCommunicationDxe keeps its
  reasons to itself. This driver starts right after that one. It looks for the same things again, in the same order, sends StMM a
  message, and powers the machine off when there is no answer. Going on with variables in memory is no way out: secure boot would be off.
  Then it sends a message as long as the buffer, and only says so if StMM finds that too long.
**/

#include <PiDxe.h>

#include <IndustryStandard/ArmFfaSvc.h>
#include <IndustryStandard/ArmFfaPartInfo.h>
#include <Library/ArmFfaLib.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/PcdLib.h>
#include <Library/PrintLib.h>
#include <Library/ResetSystemLib.h>
#include <Library/SerialPortLib.h>
#include <Library/UefiBootServicesTableLib.h>

#include <Protocol/MmCommunication2.h>

/// Characters of a line, with room for its values.
#define LINE  320

/// Bytes of the first message: a header and some more.
#define SHORT_MESSAGE  64

/**
  Prints on the serial port, as there is no other console yet.

  @param[in] Format  What to print.
  @param[in] Values  Its values.
**/
STATIC
VOID
Say (
  IN CONST CHAR8  *Format,
  IN VA_LIST      Values
  )
{
  CHAR8  Text[LINE];

  SerialPortWrite ((UINT8 *)Text, AsciiVSPrint (Text, sizeof (Text), Format, Values));
}

/**
  Prints what does not fit, and goes on.

  @param[in] Format  What, and where to look.
  @param[in] ...     Its values.
**/
STATIC
VOID
EFIAPI
Warn (
  IN CONST CHAR8  *Format,
  ...
  )
{
  VA_LIST  Values;

  VA_START (Values, Format);
  Say (Format, Values);
  VA_END (Values);
}

/**
  Prints why there are no variables and powers off.

  @param[in] Format  What is missing, and where to look.
  @param[in] ...     Its values.
**/
STATIC
VOID
EFIAPI
GiveUp (
  IN CONST CHAR8  *Format,
  ...
  )
{
  VA_LIST  Values;

  Warn ("\r\nUEFI: no variables: ");
  VA_START (Values, Format);
  Say (Format, Values);
  VA_END (Values);
  Warn ("\r\nUEFI: cannot go on without them, powering off\r\n");
  ResetShutdown ();
  CpuDeadLoop ();
}

/**
  Looks for StMM as MmCommunicationDxe has, which did not find it.
**/
STATIC
VOID
ExplainAbsence (
  VOID
  )
{
  EFI_STATUS  Status;
  UINT16      Major;
  UINT16      Minor;
  UINT16      Self;
  UINT32      Count;
  UINT32      Size;

  if (!IsFfaSupported ()) {
    GiveUp ("there is no SPMC: FFA_VERSION is not answered. EL3's console says whether one was started");
  }

  Status = ArmFfaLibGetVersion (ARM_FFA_MAJOR_VERSION, ARM_FFA_MINOR_VERSION, &Major, &Minor);
  if (EFI_ERROR (Status) || (Major != ARM_FFA_MAJOR_VERSION) || (Minor < ARM_FFA_MINOR_VERSION)) {
    GiveUp ("the SPMC does not speak FF-A %d.%d (%r)", ARM_FFA_MAJOR_VERSION, ARM_FFA_MINOR_VERSION, Status);
  }

  Status = ArmFfaLibPartitionInfoGet (&gEfiMmCommunication2ProtocolGuid, FFA_PART_INFO_FLAG_TYPE_DESC, &Count, &Size);
  if (EFI_ERROR (Status)) {
    GiveUp (
      "there is no StMM: no partition has the UUID %g (%r). The secure console names those that are up",
      &gEfiMmCommunication2ProtocolGuid,
      Status
      );
  }

  if (!EFI_ERROR (ArmFfaLibPartitionIdGet (&Self))) {
    ArmFfaLibRxRelease (Self);
  }

  GiveUp (
    "MmCommunicationDxe did not start: %d partitions have StMM's UUID, or UEFI has memory at PcdMmBufferBase 0x%lx",
    Count,
    PcdGet64 (PcdMmBufferBase)
    );
}

/**
  Sends StMM a message that means nothing to it.

  @param[in] Mm    MmCommunicationDxe's protocol.
  @param[in] Size  Its bytes, header included.

  @return What came of it.
**/
STATIC
EFI_STATUS
SendMessage (
  IN EFI_MM_COMMUNICATION2_PROTOCOL  *Mm,
  IN UINTN                           Size
  )
{
  EFI_STATUS                 Status;
  EFI_MM_COMMUNICATE_HEADER  *Message;

  Message = AllocateZeroPool (Size);
  if (Message == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  // No handler has this GUID: the message comes back as it is. StMM takes the header to be as long as the structure, padding included.
  CopyGuid (&Message->HeaderGuid, &gEfiCallerIdGuid);
  Message->MessageLength = Size - sizeof (EFI_MM_COMMUNICATE_HEADER);
  Status                 = Mm->Communicate (Mm, Message, Message, &Size);
  FreePool (Message);
  // It was not looked at: StMM served OP-TEE.
  return (Status == EFI_NO_RESPONSE) ? EFI_SUCCESS : Status;
}

/**
  Ends the boot if StMM is not there or does not take messages.

  @param[in] ImageHandle  Not used.
  @param[in] SystemTable  Not used.

  @retval EFI_UNSUPPORTED  StMM is there, and this driver is needed no more.
**/
EFI_STATUS
EFIAPI
MmCheckDxeInitialize (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_STATUS                      Status;
  EFI_MM_COMMUNICATION2_PROTOCOL  *Mm;

  Status = gBS->LocateProtocol (&gEfiMmCommunication2ProtocolGuid, NULL, (VOID **)&Mm);
  if (EFI_ERROR (Status)) {
    ExplainAbsence ();
  }

  Status = SendMessage (Mm, SHORT_MESSAGE);
  if (EFI_ERROR (Status)) {
    GiveUp (
      "StMM does not take messages at PcdMmBufferBase 0x%lx (%r): is that ns_comm_buffer in its manifest, and is StMM still up?",
      PcdGet64 (PcdMmBufferBase),
      Status
      );
  }

  Status = SendMessage (Mm, (UINTN)PcdGet64 (PcdMmBufferSize));
  if (EFI_ERROR (Status)) {
    Warn (
      "\r\nUEFI: StMM does not take a message of PcdMmBufferSize 0x%lx (%r): large variables will fail if ns_comm_buffer in its manifest is shorter\r\n",
      PcdGet64 (PcdMmBufferSize),
      Status
      );
  }

  return EFI_UNSUPPORTED;
}
